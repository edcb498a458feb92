-- Which of a task's tokens does a pre-training set of Ws paragraphs lack: the ten most frequent for each pair.
-- studies: the studies that measured it
-- task: name of the task
-- ws: paragraphs in the pre-training set
-- treatment: treatment of the pre-training set, null without one
-- token: the token
-- task_count: occurrences in the task
-- task_documents: items of the task that hold it
with names as (
    select
        key,
        string_agg(distinct name, ', ' order by name) as studies
    from studies
    group by key
)

select
    names.studies,
    token_counts.task,
    token_counts.ws,
    token_counts.treatment,
    token_counts.token,
    token_counts.task_count,
    token_counts.task_documents
from token_counts
left join names on token_counts.key = names.key
where token_counts.corpus_count = 0
qualify
    row_number() over (
        partition by token_counts.key
        order by token_counts.task_count desc, token_counts.token_id
    ) <= 10
order by
    token_counts.task, token_counts.ws, token_counts.treatment nulls first, token_counts.key,
    token_counts.task_count desc, token_counts.token_id
