-- labels: one row for each label of each task.
-- task_key: the task
-- task: its name
-- label: the label's number, as in predictions and confusions
-- name: its name
with runs as (select * from main.runs),

final as (
    select
        key as task_key,
        task,
        unnest(range(json_array_length(facts, '$.label_names')::bigint))::integer as label,
        unnest(from_json((facts -> 'label_names'), '["varchar"]')) as name
    from runs
    where stage = 'task' and (facts -> 'label_names') is not null
)

select * from final
order by task, task_key, label
