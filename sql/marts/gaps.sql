-- gaps: results over seeds, each set beside the same system trained from scratch. Only like is set beside like: a row
-- is one task, system and rule at one `setting` and `pretrain_setting`. Half-widths are those of 95 % confidence intervals.
-- task: name of the task
-- kind: its stage: finetune, committee, baseline, or another that predicts
-- system: the architecture (with ", SVD only" if it began with word vectors and nothing else), the committee or the baseline
-- rule: how the committee combined its members; null otherwise
-- ws: paragraphs in the pre-training set; 0 is from scratch; null for baselines
-- treatment: treatment of the pre-training set, null without one
-- treatment_task: the task that the treatment is about, null if none
-- injected_tokens: distinct tokens that a missing-token injection removed (mean over seeds)
-- runs: number of results
-- seeds: independent repetitions among them (fine-tunings of one pre-training count as one); 0 for baselines
-- members: models that predict together
-- parameters: trainable parameters of all members
-- test_items: number of test items
-- accuracy: mean test accuracy, 0 to 1
-- accuracy_half_width: of its 95 % interval over seeds and test items; null with one seed, which bounds nothing
-- scratch_accuracy: mean accuracy of the same system from scratch
-- gap: accuracy minus scratch_accuracy
-- gap_half_width: of its 95 % interval; null with one seed on either side
-- resolved: whether the 95 % interval of the gap excludes 0; never with one seed on either side
-- type_overlap: common types over task types, 0 to 1 (mean over seeds, as those below)
-- occurrence_overlap: share of the task's token occurrences whose type is in the pre-training set, 0 to 1
-- missing_from_corpus: distinct tokens of the task that the pre-training set lacks
-- pretrain_flops: floating point operations of its pre-training (mean over seeds; of a committee: of all members)
-- finetune_flops: those of its fine-tuning, likewise
-- dry_run: whether trainings were ended early (max_steps): its numbers mean nothing
-- studies: names of the studies that its results belong to, with their scales; null before a report was written
-- accuracy_estimate: the accuracy as tlm.statistics.mean_accuracy returns it; null on a single test item
-- gap_estimate: the gap as tlm.statistics.difference returns it, likewise
-- setting: digest of the task, tokens, architecture and fine-tuning, without seeds
-- pretrain_setting: digest of the pre-training and its corpus, without seeds
-- results: key, MLflow experiment and MLflow run of each result
with results as (select * from main.results),

right_items as (
    select
        key,
        rule,
        list(correct order by item_id) as correct
    from main.predictions
    where part = 'test'
    group by key, rule
),

grouped as (
    select
        results.task,
        results.kind,
        results.system,
        -- Two arms may differ in their pre-training alone: they share their models from scratch, which bear one's name.
        if(results.kind = 'finetune', results.setting, coalesce(results.arch, results.system)) as from_scratch,
        results.rule,
        results.ws,
        results.treatment,
        results.treatment_task,
        results.setting,
        results.pretrain_setting,
        results.dry_run,
        avg(results.injected_tokens) as injected_tokens,
        count(*) as runs,
        max(results.members) as members,
        max(results.parameters) as parameters,
        min(results.test_items) as test_items,
        avg(results.accuracy) as recorded_accuracy,
        avg(results.type_overlap) as type_overlap,
        avg(results.occurrence_overlap) as occurrence_overlap,
        avg(results.missing_from_corpus) as missing_from_corpus,
        avg(results.pretrain_flops) as pretrain_flops,
        avg(results.finetune_flops) as finetune_flops,
        list_sort(list_distinct(flatten(list(string_split(results.studies, ', '))))) as names,
        list(
            {
                'pretrain_seed': results.pretrain_seed,
                'finetune_seed': results.finetune_seed,
                'correct': right_items.correct
            }
            order by results.pretrain_seed, results.finetune_seed, results.key
        ) as correctness,
        list(
            {
                'key': results.key,
                'experiment_id': results.mlflow_experiment_id,
                'run_id': results.mlflow_run_id
            }
            order by results.pretrain_seed, results.finetune_seed, results.key
        ) as results
    from results
    left join right_items
        on results.key = right_items.key and results.rule is not distinct from right_items.rule
    group by all
),

estimated as (
    select
        *,
        accuracy_estimate(kind, correctness) as accuracy_estimate
    from grouped
),

measured as (
    select
        *,
        coalesce(accuracy_estimate.value, recorded_accuracy) as accuracy
    from estimated
),

scratch as (
    select
        task,
        kind,
        from_scratch,
        rule,
        setting,
        if(count(*) = 1, max(accuracy), sum(accuracy * runs) / sum(runs)) as accuracy,
        flatten(list(correctness order by system)) as correctness
    from measured
    where ws = 0 and treatment is null and kind != 'baseline'
    group by all
),

compared as (
    select
        measured.*,
        scratch.accuracy as scratch_accuracy,
        measured.accuracy - scratch.accuracy as gap,
        difference_estimate(measured.kind, measured.correctness, scratch.correctness) as gap_estimate
    from measured
    left join scratch
        on
            measured.ws > 0
            and measured.task = scratch.task
            and measured.kind = scratch.kind
            and measured.from_scratch = scratch.from_scratch
            and measured.rule is not distinct from scratch.rule
            and measured.setting = scratch.setting
),

final as (
    select
        task,
        kind,
        system,
        rule,
        ws,
        treatment,
        treatment_task,
        injected_tokens,
        runs,
        accuracy_estimate.seeds as seeds,
        members,
        parameters,
        test_items,
        accuracy,
        if(accuracy_estimate.seeds = 1, null, accuracy_estimate.half_width) as accuracy_half_width,
        scratch_accuracy,
        gap,
        if(gap_estimate.seeds = 1, null, gap_estimate.half_width) as gap_half_width,
        gap_estimate.resolved as resolved,
        type_overlap,
        occurrence_overlap,
        missing_from_corpus,
        pretrain_flops,
        finetune_flops,
        dry_run,
        nullif(array_to_string(names, ', '), '') as studies,
        accuracy_estimate,
        gap_estimate,
        setting,
        pretrain_setting,
        results
    from compared
)

select * from final
order by task, kind, system, rule, ws, treatment nulls first, setting, pretrain_setting
