-- runs: one row for each artifact.
-- key: step key, SHA-256 of the step's stage, version, configuration and input keys
-- stage: kind of work (source, tokenizer, tokens, corpus, task, overlap, inject, pretrain, finetune, …)
-- role: what its artifact is: a pre-training set (corpus), word vectors (embeds), a language model (pretrains), predictions (predicts, combines), or null
-- slug: readable name
-- version: version of the stage
-- ws: paragraphs in the pre-training set; 0 is from scratch
-- corpus_seed: seed of the corpus sample
-- arch: architecture
-- arm: the arm of its study, whose way to train it is; null where there are none
-- budget: pre-training steps that the arm asks for, where it has several numbers of them
-- task: name of the task
-- init: pretrained, svd (word vectors from counts and nothing else) or scratch
-- pretrain_seed: seed of pre-training
-- finetune_seed: seed of fine-tuning
-- treatment: what was done to the pre-training set beyond drawing Ws paragraphs at random, null for nothing
-- treatment_task: the task that the treatment is about, null if none
-- committee: name of the committee
-- baseline: name of the baseline
-- study: name of the study (reports only)
-- seconds: wall-clock time the artifact took
-- bytes: size of its outputs
-- config: literal configuration, JSON
-- inputs: input name to stage, key and slug, JSON (one row for each in `lineage`)
-- facts: the stage's small results, JSON
-- git_commit: commit of the code that made it
-- git_dirty: whether that code had uncommitted changes
-- device: cpu or the name of the GPU that made it
-- without_weights: whether its weights were left on the machine that made it, as its record says
-- dry_run: whether a training of it, or of what it was made from, was ended early (max_steps): its numbers mean nothing
-- mlflow_run_id: MLflow run that made it, null if runs were not tracked
-- mlflow_experiment_id: MLflow experiment of that run
-- path: folder, relative to TLM_HOME
-- created: when it was made, UTC
with records as (select * from stg_records),

final as (
    select
        key,
        stage,
        role,
        slug,
        version,
        (labels ->> 'ws')::bigint as ws,
        (labels ->> 'corpus_seed')::bigint as corpus_seed,
        labels ->> 'arch' as arch,
        labels ->> 'arm' as arm,
        (labels ->> 'budget')::bigint as budget,
        labels ->> 'task' as task,
        labels ->> 'init' as init,
        (labels ->> 'pretrain_seed')::bigint as pretrain_seed,
        (labels ->> 'finetune_seed')::bigint as finetune_seed,
        labels ->> 'treatment' as treatment,
        labels ->> 'treatment_task' as treatment_task,
        labels ->> 'committee' as committee,
        labels ->> 'baseline' as baseline,
        labels ->> 'study' as study,
        seconds,
        list_sum(json_extract(outputs, '$.*.bytes')::bigint[])::bigint as bytes,
        config,
        inputs,
        facts,
        provenance ->> 'git_commit' as git_commit,
        (provenance ->> 'git_dirty')::boolean as git_dirty,
        coalesce(provenance ->> 'gpu', provenance ->> 'device') as device,
        without_weights,
        dry_run,
        mlflow_run_id,
        mlflow_experiment_id,
        path,
        created
    from records
)

select * from final
order by stage, slug, key
