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
with counted as (
    select
        results.task,
        results.system,
        results.rule,
        results.ws,
        results.treatment,
        results.setting,
        results.pretrain_setting,
        results.task_key,
        least(confusions.label, confusions.prediction) as label,
        greatest(confusions.label, confusions.prediction) as other,
        string_agg(distinct results.studies, '; ' order by results.studies) as studies,
        coalesce(sum(confusions.items) filter (where confusions.label < confusions.prediction), 0)::bigint
            as other_for_label,
        coalesce(sum(confusions.items) filter (where confusions.label > confusions.prediction), 0)::bigint
            as label_for_other
    from confusions
    inner join results on confusions.key = results.key and confusions.rule is not distinct from results.rule
    where confusions.label != confusions.prediction
    group by all
),

ranked as (
    select
        *,
        other_for_label + label_for_other as errors,
        errors / sum(errors) over system_of_task as share,
        row_number() over (system_of_task order by errors desc, label, other) as place
    from counted
    window system_of_task as (partition by task, system, rule, ws, treatment, setting, pretrain_setting, task_key)
)

select
    ranked.studies,
    ranked.task,
    ranked.system,
    ranked.rule,
    ranked.ws,
    ranked.treatment,
    coalesce(one.name, ranked.label::varchar) as label,
    coalesce(two.name, ranked.other::varchar) as other,
    ranked.other_for_label,
    ranked.label_for_other,
    round(100 * ranked.share, 2) as share
from ranked
left join labels as one on ranked.task_key = one.task_key and ranked.label = one.label
left join labels as two on ranked.task_key = two.task_key and ranked.other = two.label
where ranked.place <= 10
order by
    ranked.task, ranked.system, ranked.rule, ranked.ws, ranked.treatment nulls first, ranked.setting,
    ranked.pretrain_setting, ranked.place
