-- injected_tokens: the tokens that each injection took out of a pre-training set.
-- key: the inject artifact
-- ws: paragraphs in the pre-training set
-- treatment: selection-removal-amount
-- treatment_task: the task whose tokens they are
-- token_id: id in the vocabulary
-- token: the token
-- corpus_count: occurrences in the pre-training set before
-- task_count: occurrences in the task
with tokens as (select * from stg_injected_tokens),

runs as (select * from main.runs),

final as (
    select
        tokens.key,
        runs.ws,
        runs.treatment,
        runs.treatment_task,
        tokens.* exclude (key)
    from tokens
    left join runs on tokens.key = runs.key
)

select * from final
order by key, token_id
