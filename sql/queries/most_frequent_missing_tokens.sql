-- Which of a task's tokens does a pre-training set lack: the ten most frequent for each pair.
select
    task,
    ws,
    treatment,
    token,
    task_count,
    task_documents
from token_counts
where corpus_count = 0
qualify row_number() over (partition by key order by task_count desc, token_id) <= 10
order by task, ws, treatment nulls first, key, task_count desc, token_id
