-- gaps: results over seeds, each set beside the same system trained from scratch. Only like is set beside like: a row
-- is one task, system and rule at one `setting` and `pretrain_setting`.
-- task: name of the task
-- kind: finetune, committee or baseline
-- system: the architecture, the committee or the baseline
-- rule: how the committee combined its members; null otherwise
-- ws: paragraphs in the pre-training set; 0 is from scratch; null for baselines
-- treatment: treatment of the pre-training set, null without one
-- treatment_task: the task that the treatment is about, null if none
-- injected_tokens: distinct tokens that a missing-token injection removed (mean over seeds)
-- runs: number of results (seeds)
-- members: models that predict together
-- parameters: trainable parameters of all members
-- accuracy: mean test accuracy, 0 to 1
-- seed_deviation: standard deviation of the accuracy over seeds; null with one
-- test_items: number of test items
-- binomial_error: standard error of the mean accuracy from the finite number of test items
-- standard_error: the larger of binomial_error and the standard error over seeds
-- scratch_accuracy: mean accuracy of the same system from scratch
-- gap: accuracy minus scratch_accuracy
-- gap_error: standard error of the gap, from both standard errors
-- resolved: whether the gap is larger than twice its standard error
-- type_overlap: common types over task types, 0 to 1 (mean over seeds, as those below)
-- occurrence_overlap: share of the task's token occurrences whose type is in the pre-training set, 0 to 1
-- missing_from_corpus: distinct tokens of the task that the pre-training set lacks
-- setting: digest of the task, tokens, architecture and fine-tuning, without seeds
-- pretrain_setting: digest of the pre-training and its corpus, without seeds
-- results: key, MLflow experiment and MLflow run of each result
with results as (select * from main.results),

grouped as (
    select
        task,
        kind,
        system,
        rule,
        ws,
        treatment,
        treatment_task,
        setting,
        pretrain_setting,
        avg(injected_tokens) as injected_tokens,
        count(*) as runs,
        max(members) as members,
        max(parameters) as parameters,
        avg(accuracy) as accuracy,
        stddev_samp(accuracy) as seed_deviation,
        min(test_items) as test_items,
        avg(type_overlap) as type_overlap,
        avg(occurrence_overlap) as occurrence_overlap,
        avg(missing_from_corpus) as missing_from_corpus,
        list(
            {'key': key, 'experiment_id': mlflow_experiment_id, 'run_id': mlflow_run_id}
            order by pretrain_seed, finetune_seed, key
        ) as results
    from results
    group by all
),

with_errors as (
    select
        *,
        sqrt(accuracy * (1 - accuracy) / test_items) as binomial_error,
        greatest(
            sqrt(accuracy * (1 - accuracy) / test_items),
            coalesce(seed_deviation / sqrt(runs), 0)
        ) as standard_error
    from grouped
),

scratch as (
    select *
    from with_errors
    where ws = 0 and treatment is null and kind != 'baseline'
),

compared as (
    select
        with_errors.*,
        scratch.accuracy as scratch_accuracy,
        with_errors.accuracy - scratch.accuracy as gap,
        sqrt(with_errors.standard_error ** 2 + scratch.standard_error ** 2) as gap_error
    from with_errors
    left join scratch
        on
            with_errors.ws > 0
            and with_errors.task = scratch.task
            and with_errors.kind = scratch.kind
            and with_errors.system = scratch.system
            and with_errors.rule is not distinct from scratch.rule
            and with_errors.setting = scratch.setting
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
        members,
        parameters,
        accuracy,
        seed_deviation,
        test_items,
        binomial_error,
        standard_error,
        scratch_accuracy,
        gap,
        gap_error,
        abs(gap) > 2 * gap_error as resolved,
        type_overlap,
        occurrence_overlap,
        missing_from_corpus,
        setting,
        pretrain_setting,
        results
    from compared
)

select * from final
order by task, kind, system, rule, ws, treatment nulls first, setting, pretrain_setting
