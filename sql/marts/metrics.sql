-- metrics: training curves.
-- key: the pretrain or finetune artifact
-- stage: the stage that trained
-- task: name of the task (finetune only)
-- ws: paragraphs in the pre-training set; 0 is from scratch
-- treatment: treatment of the pre-training set, null without one
-- arch: architecture
-- pretrain_seed: seed of pre-training
-- finetune_seed: seed of fine-tuning
-- step: optimiser steps so far
-- epoch: epochs so far
-- name: what was measured
-- value: its value
with metrics as (select * from stg_metrics),

runs as (select * from main.runs),

final as (
    select
        metrics.key,
        runs.stage,
        runs.task,
        runs.ws,
        runs.treatment,
        runs.arch,
        runs.pretrain_seed,
        runs.finetune_seed,
        metrics.* exclude (key)
    from metrics
    left join runs on metrics.key = runs.key
)

select * from final
order by key, name, step
