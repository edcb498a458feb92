-- lineage: one row for each edge from an artifact to one of its inputs.
-- key: the artifact
-- input_name: what the input is to it (corpus, task, pretrained, member_000, …)
-- input_key: the input's step key
-- input_stage: the input's stage
with runs as (select * from main.runs),

edges as (
    select
        key,
        inputs,
        unnest(json_keys(inputs)) as input_name
    from runs
),

final as (
    select
        key,
        input_name,
        json_extract_string(inputs, concat('$."', input_name, '".key')) as input_key,
        json_extract_string(inputs, concat('$."', input_name, '".stage')) as input_stage
    from edges
)

select * from final
order by key, input_name
