-- What differs between two results, in their configuration and in that of every artifact that they were made from.
-- Which ones: set variable first = '…' and second = '…' (the beginning of a key is enough); without them, the most and the
-- least accurate single model of the task of the most accurate one.
-- place: the artifact, as inputs lead to it (pretrained.corpus); empty for the results themselves
-- stage: kind of work there
-- field: the field of its configuration, or slug, accuracy, device, git_commit; only slug where just one of the two has it
-- first: its value in the first
-- second: its value in the second
with recursive singles as (
    select
        key,
        task_key,
        accuracy
    from results
    where kind not in ('baseline', 'committee')
),

best as (select * from singles order by accuracy desc, key limit 1),

worst as (select * from singles where task_key = (select task_key from best) order by accuracy, key limit 1),

up as (
    select
        'first' as run,
        key,
        '' as place
    from runs
    where starts_with(key, coalesce(getvariable('first'), (select key from best)))
    union all
    select
        'second',
        key,
        ''
    from runs
    where starts_with(key, coalesce(getvariable('second'), (select key from worst)))
    union all
    select
        up.run,
        lineage.input_key,
        concat_ws('.', nullif(up.place, ''), lineage.input_name)
    from up
    inner join lineage on up.key = lineage.key
),

-- An artifact is named by the shortest way to it.
placed as (
    select
        up.run,
        up.key,
        runs.stage,
        first(up.place order by length(up.place), up.place) as place
    from up
    inner join runs on up.key = runs.key
    group by up.run, up.key, runs.stage
),

described as (
    select
        placed.run,
        placed.place,
        placed.stage,
        unnest([
            {'field': 'slug', 'value': runs.slug},
            {'field': 'device', 'value': runs.device},
            {'field': 'git_commit', 'value': runs.git_commit},
            {'field': 'accuracy', 'value': round(100 * results.accuracy, 2)::varchar}
        ], recursive := true)
    from placed
    inner join runs on placed.key = runs.key
    left join results on placed.key = results.key and results.rule is null and placed.place = ''
    union all
    select
        placed.run,
        placed.place,
        placed.stage,
        concat_ws('.', nullif(ltrim(leaf.path, '$.'), ''), leaf.key),
        leaf.value ->> '$'
    from placed
    inner join runs on placed.key = runs.key
    cross join json_tree(runs.config::json) as leaf
    where leaf.type not in ('OBJECT', 'ARRAY')
),

in_both as (
    select place
    from placed
    group by place
    having count(distinct run) = 2
),

compared as (
    select
        place,
        min(stage) as stage,
        field,
        max(value) filter (where run = 'first') as first,
        max(value) filter (where run = 'second') as second
    from described
    where field = 'slug' or place in (select place from in_both)
    group by place, field
)

select
    place,
    stage,
    field,
    first,
    second
from compared
where first is distinct from second
order by length(place) - length(replace(place, '.', '')), place != '', place, field != 'accuracy', field
