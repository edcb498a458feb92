-- token_counts: how often each token occurs in a pre-training set and in a task (all its items).
-- key: the overlap artifact
-- task: name of the task
-- ws: paragraphs in the pre-training set
-- treatment: treatment of the pre-training set, null without one
-- token_id: id in the vocabulary
-- token: the token
-- corpus_count: occurrences in the pre-training set
-- corpus_documents: paragraphs of the pre-training set that hold it
-- task_count: occurrences in the task
-- task_documents: items of the task that hold it
with counts as (select * from stg_token_counts),

runs as (select * from main.runs),

final as (
    select
        counts.key,
        runs.task,
        runs.ws,
        runs.treatment,
        counts.* exclude (key)
    from counts
    left join runs on counts.key = runs.key
)

select * from final
order by key, token_id
