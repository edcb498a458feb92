-- Where does a number come from: every artifact that a result was made from, up to the source files.
-- Which one: set variable key = '…' (the beginning of its key is enough); without it, the most accurate single model.
-- depth: steps from the result, which is 0
-- input_name: what the artifact is to the step below it (member_000, pretrained, corpus, tokens, source, …); null for the result
-- stage: kind of work
-- slug: its readable name
-- key: its key
-- pretrain_seed: seed of pre-training
-- finetune_seed: seed of fine-tuning
-- accuracy: test accuracy, percent, where it has one
-- dry_run: whether a training of it, or of what it was made from, was ended early: its numbers mean nothing
-- git_commit: commit of the code that made it
-- device: cpu or the name of the GPU that made it
-- seconds: wall-clock time it took
-- mlflow_run_id: MLflow run that made it, null if runs were not tracked
-- created: when it was made, UTC
with recursive chosen as (
    select key
    from runs
    where starts_with(
        key,
        coalesce(
            getvariable('key'),
            (
                select first(key order by accuracy desc, key)
                from results
                where kind not in ('baseline', 'committee')
            )
        )
    )
),

up as (
    select
        key,
        0 as depth,
        null::varchar as input_name
    from chosen
    union -- an artifact may be reached on several ways
    select
        lineage.input_key,
        up.depth + 1,
        lineage.input_name
    from up
    inner join lineage on up.key = lineage.key
),

nearest as (
    select
        key,
        min(depth) as depth,
        first(input_name order by depth, input_name) as input_name
    from up
    group by key
),

accuracies as (
    select
        key,
        round(100 * accuracy, 2) as accuracy
    from results
    where rule is null
)

select
    nearest.depth,
    nearest.input_name,
    runs.stage,
    runs.slug,
    runs.key,
    runs.pretrain_seed,
    runs.finetune_seed,
    accuracies.accuracy,
    runs.dry_run,
    runs.git_commit,
    runs.device,
    runs.seconds,
    runs.mlflow_run_id,
    runs.created
from nearest
inner join runs on nearest.key = runs.key
left join accuracies on nearest.key = accuracies.key
order by nearest.depth, nearest.input_name nulls first, runs.stage, runs.slug, runs.key
