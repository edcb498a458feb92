-- Which labels does a system get wrong: its accuracy on the test items of each label, all seeds together.
-- studies: the studies that its results belong to; a semicolon stands between those of different results
-- task: name of the task
-- system: the architecture, the committee or the baseline
-- rule: how the committee combines its members; null otherwise
-- ws: paragraphs in the pre-training set; 0 is from scratch; null for baselines
-- treatment: treatment of the pre-training set, null without one
-- label: the true label
-- runs: results that are counted together
-- items: predictions of items of this label (test items × runs)
-- wrong: those that are wrong
-- accuracy: percent that are right
-- taken_for: the label that most of the wrong ones were given (of equal ones the first); null if none is wrong
with systems as (
    select
        *,
        dense_rank() over (
            order by task, system, rule, ws, treatment nulls first, setting, pretrain_setting, task_key
        ) as place
    from results
),

described as (
    select
        place,
        task,
        system,
        rule,
        ws,
        treatment,
        task_key,
        count(*) as runs,
        string_agg(distinct studies, '; ' order by studies) as studies
    from systems
    group by all
),

counted as (
    select
        systems.place,
        confusions.label,
        confusions.prediction,
        sum(confusions.items)::bigint as items
    from confusions
    inner join systems on confusions.key = systems.key and confusions.rule is not distinct from systems.rule
    group by all
),

by_label as (
    select
        place,
        label,
        sum(items)::bigint as items,
        coalesce(sum(items) filter (where prediction != label), 0)::bigint as wrong,
        arg_max(prediction, (items, -prediction)) filter (where prediction != label) as taken_for
    from counted
    group by all
)

select
    described.studies,
    described.task,
    described.system,
    described.rule,
    described.ws,
    described.treatment,
    coalesce(of_label.name, by_label.label::varchar) as label,
    described.runs,
    by_label.items,
    by_label.wrong,
    round(100 * (1 - by_label.wrong / by_label.items), 2) as accuracy,
    coalesce(predicted.name, by_label.taken_for::varchar) as taken_for
from by_label
inner join described on by_label.place = described.place
left join labels as of_label on described.task_key = of_label.task_key and by_label.label = of_label.label
left join labels as predicted on described.task_key = predicted.task_key and by_label.taken_for = predicted.label
order by by_label.place, accuracy, by_label.label
