-- near_duplicates: how much of each dev and test item stands word for word in a pre-training set.
-- key: the duplicates artifact
-- task: name of the task
-- ws: paragraphs in the pre-training set
-- treatment: treatment of the pre-training set, null without one
-- part: the split: dev or test
-- item_id: the item
-- ngrams: its runs of 13 tokens (1 if it is shorter: the whole item)
-- hits: how many of them the pre-training set holds; more than 0 makes it a near-duplicate
with duplicates as (select * from stg_duplicates),

runs as (select * from main.runs),

final as (
    select
        duplicates.key,
        runs.task,
        runs.ws,
        runs.treatment,
        duplicates.part,
        duplicates.item_id,
        duplicates.ngrams,
        duplicates.hits
    from duplicates
    left join runs on duplicates.key = runs.key
)

select * from final
order by key, part, item_id
