-- Which of a task's tokens does a pre-training set of Ws paragraphs lack: the ten most frequent for each pair.
-- task: name of the task
-- ws: paragraphs in the pre-training set
-- treatment: treatment of the pre-training set, null without one
-- token: the token
-- task_count: occurrences in the task
-- task_documents: items of the task that hold it
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
