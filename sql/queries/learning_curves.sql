-- How do models learn: what was measured on held-out text (pre-training) and dev items (fine-tuning), means over seeds.
-- studies: the studies that its trainings belong to; a semicolon stands between those of different trainings
-- stage: the stage that trained
-- task: name of the task, null for pre-training
-- system: the architecture, with what sets its training apart
-- ws: paragraphs in the pre-training set; 0 is from scratch
-- treatment: treatment of the pre-training set, null without one
-- name: what was measured (heldout_loss in nats, heldout_accuracy and dev_accuracy from 0 to 1, …)
-- step: optimiser steps so far
-- epoch: epochs so far
-- runs: trainings that the mean is over
-- value: mean
-- sd: standard deviation over trainings, null of one
with alike as (
    select
        key,
        system,
        concat_ws('|', setting, pretrain_setting) as setting
    from results
    where rule is null
    union all
    select
        pretrain_key,
        min(system),
        min(pretrain_setting)
    from results
    where pretrain_key is not null and rule is null
    group by pretrain_key
),

names as (
    select
        key,
        string_agg(distinct name, ', ' order by name) as studies
    from studies
    group by key
)

select
    string_agg(distinct names.studies, '; ' order by names.studies) as studies,
    metrics.stage,
    metrics.task,
    coalesce(alike.system, metrics.arch) as system,
    metrics.ws,
    metrics.treatment,
    metrics.name,
    metrics.step,
    min(metrics.epoch) as epoch,
    count(*) as runs,
    avg(metrics.value) as value,
    stddev_samp(metrics.value) as sd
from metrics
left join alike on metrics.key = alike.key
left join names on metrics.key = names.key
where metrics.name not in ('train_loss', 'learning_rate')
group by
    metrics.stage, metrics.task, coalesce(alike.system, metrics.arch), metrics.ws, metrics.treatment, metrics.name,
    metrics.step, coalesce(alike.setting, metrics.key)
order by
    metrics.stage, metrics.task nulls first, system, metrics.ws, metrics.treatment nulls first,
    coalesce(alike.setting, metrics.key), metrics.name, metrics.step
