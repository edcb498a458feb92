-- Which labels does a system confuse: the ten pairs that it takes for each other most, all seeds together.
-- studies: the studies that its results belong to; a semicolon stands between those of different results
-- task: name of the task
-- system: the architecture, the committee or the baseline
-- rule: how the committee combines its members; null otherwise
-- ws: paragraphs in the pre-training set; 0 is from scratch; null for baselines
-- treatment: treatment of the pre-training set, null without one
-- label: one label
-- other: the other one, which comes later among the task's labels
-- other_for_label: test items of `label` that were taken for `other`, in all runs
-- label_for_other: test items of `other` that were taken for `label`, in all runs
-- share: percent of the system's errors that are of this pair
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
        string_agg(distinct studies, '; ' order by studies) as studies
    from systems
    group by all
),

pairs as (
    select
        systems.place,
        least(confusions.label, confusions.prediction) as label,
        greatest(confusions.label, confusions.prediction) as other,
        coalesce(sum(confusions.items) filter (where confusions.label < confusions.prediction), 0)::bigint
            as other_for_label,
        coalesce(sum(confusions.items) filter (where confusions.label > confusions.prediction), 0)::bigint
            as label_for_other
    from confusions
    inner join systems on confusions.key = systems.key and confusions.rule is not distinct from systems.rule
    where confusions.label != confusions.prediction
    group by all
),

ranked as (
    select
        *,
        other_for_label + label_for_other as errors,
        errors / sum(errors) over (partition by place) as share,
        row_number() over (partition by place order by errors desc, label, other) as pair
    from pairs
)

select
    described.studies,
    described.task,
    described.system,
    described.rule,
    described.ws,
    described.treatment,
    coalesce(one.name, ranked.label::varchar) as label,
    coalesce(two.name, ranked.other::varchar) as other,
    ranked.other_for_label,
    ranked.label_for_other,
    round(100 * ranked.share, 2) as share
from ranked
inner join described on ranked.place = described.place
left join labels as one on described.task_key = one.task_key and ranked.label = one.label
left join labels as two on described.task_key = two.task_key and ranked.other = two.label
where ranked.pair <= 10
order by ranked.place, ranked.pair
