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
with counted as (
    select
        string_agg(distinct results.studies, '; ' order by results.studies) as studies,
        results.task,
        results.system,
        results.rule,
        results.ws,
        results.treatment,
        results.setting,
        results.pretrain_setting,
        results.task_key,
        confusions.label,
        confusions.prediction,
        count(distinct results.key) as runs,
        sum(confusions.items)::bigint as items
    from confusions
    inner join results on confusions.key = results.key and confusions.rule is not distinct from results.rule
    group by all
)

select
    max(counted.studies) as studies,
    counted.task,
    counted.system,
    counted.rule,
    counted.ws,
    counted.treatment,
    coalesce(of_label.name, counted.label::varchar) as label,
    max(counted.runs) as runs,
    sum(counted.items)::bigint as items,
    coalesce(sum(counted.items) filter (where counted.prediction != counted.label), 0)::bigint as wrong,
    round(100 * (1 - wrong / sum(counted.items)), 2) as accuracy,
    first(coalesce(predicted.name, counted.prediction::varchar) order by counted.items desc, counted.prediction)
    filter (where counted.prediction != counted.label) as taken_for
from counted
left join labels as of_label on counted.task_key = of_label.task_key and counted.label = of_label.label
left join labels as predicted on counted.task_key = predicted.task_key and counted.prediction = predicted.label
group by
    counted.task, counted.system, counted.rule, counted.ws, counted.treatment, counted.setting,
    counted.pretrain_setting, counted.task_key, counted.label, of_label.name
order by
    counted.task, counted.system, counted.rule, counted.ws, counted.treatment nulls first, counted.setting,
    counted.pretrain_setting, accuracy, counted.label
