-- results: one row for each measured test accuracy.
-- key: the artifact whose predictions were measured (a committee has a row for each rule)
-- kind: its stage: finetune, committee, baseline, or another that predicts
-- task: name of the task
-- system: the architecture (with arm and budget, and ", SVD only" if init is svd), the committee, the baseline, or the stage
-- arch: architecture (finetune only)
-- arm: the arm of its study, whose way to train it is; null where there are none
-- budget: pre-training steps that the arm asks for, where it has several numbers of them
-- rule: how the committee combined its members (soft, logit, vote); null otherwise
-- init: pretrained, svd (word vectors from counts and nothing else) or scratch; null for baselines
-- ws: paragraphs in the pre-training set; 0 is from scratch; null for baselines
-- treatment: what was done to the pre-training set beyond drawing Ws paragraphs at random, null for nothing
-- treatment_task: the task that the treatment is about, null if none
-- injected_tokens: distinct tokens that a missing-token injection removed
-- corpus_seed: seed of the corpus sample
-- pretrain_seed: seed of pre-training
-- finetune_seed: seed of fine-tuning
-- accuracy: test accuracy, 0 to 1
-- dev_accuracy: accuracy on the dev split, training items that were held out, 0 to 1
-- test_items: number of test items
-- members: models that predict together; null for baselines
-- parameters: trainable parameters of all members
-- pretrain_key: the pre-trained model it started from
-- corpus_key: the pre-training set of all its members (an artifact in the role corpus)
-- heldout_loss: masked-language-modelling loss of the pre-trained model on held-out text, nats
-- heldout_accuracy: its accuracy on masked positions of held-out text, 0 to 1
-- heldout_bits_per_byte: that loss in bits for each byte of the text; null unless it predicts everything
-- corpus_types: distinct tokens in the pre-training set
-- task_types: distinct tokens in the task
-- common_types: distinct tokens in both
-- missing_from_corpus: distinct tokens of the task that the pre-training set lacks
-- missing_from_task: distinct tokens of the pre-training set that the task lacks
-- type_overlap: common types over task types, 0 to 1
-- occurrence_overlap: share of the task's token occurrences whose type is in the pre-training set, 0 to 1
-- jaccard: common types over types of either
-- weighted_jaccard: sum of the smaller over sum of the larger token frequency
-- js_divergence: Jensen-Shannon divergence, bits
-- kl_divergence: divergence of the task from the (smoothed) pre-training set, bits
-- pretrain_flops: floating point operations of its pre-training, with those of the word vectors that it began with (committees: of all members)
-- finetune_flops: those of its fine-tuning (committees: of all members); null for baselines
-- setting: digest of the task, tokens, architecture and fine-tuning, without seeds: equal ones differ in pre-training only
-- pretrain_setting: digest of the pre-training and its corpus, without seeds; null from scratch and for baselines
-- task_key: the task (its labels are in labels)
-- dry_run: whether a training of it, or of what it was made from, was ended early (max_steps): its numbers mean nothing
-- studies: names of the studies that it belongs to, with their scales; null before a report was written
-- seconds: wall-clock time of this stage
-- device: cpu or the name of the GPU that made it
-- mlflow_run_id: MLflow run that made it, null if runs were not tracked
-- mlflow_experiment_id: MLflow experiment of that run
-- git_commit: commit of the code that made it
-- created: when it was made, UTC
with runs as (select * from main.runs),

edges as (
    select
        key,
        max(input_key) filter (where input_name = 'corpus') as corpus_key,
        max(input_key) filter (where input_name = 'task') as task_key,
        max(input_key) filter (where input_name = 'tokens') as tokens_key,
        max(input_key) filter (where input_name = 'foreign') as foreign_key,
        max(input_key) filter (where input_name = 'tokenizer') as tokenizer_key,
        max(input_key) filter (where input_name = 'pretrained') as pretrain_key,
        max(input_key) filter (where input_name = 'embeddings') as embeddings_key
    from main.lineage
    group by key
),

members as (
    select
        lineage.key,
        lineage.input_key as member_key
    from main.lineage as lineage
    inner join runs on lineage.key = runs.key
    where runs.role = 'combines'
),

described as (
    select
        runs.*,
        edges.* exclude (key),
        json_merge_patch(runs.config, '{"seed": null}')::varchar as seedless
    from runs
    left join edges on runs.key = edges.key
),

corpora as (
    select
        corpus.key,
        concat_ws(
            '|',
            corpus.seedless,
            corpus.task_key,
            corpus.tokens_key,
            corpus.foreign_key,
            coalesce(base.seedless, corpus.corpus_key),
            base.tokens_key
        ) as setting,
        (corpus.facts ->> 'removed')::bigint as injected_tokens
    from described as corpus
    left join described as base on corpus.corpus_key = base.key
    where corpus.role = 'corpus'
),

beginnings as (
    select
        described.key,
        described.corpus_key,
        corpora.injected_tokens,
        (described.facts ->> 'heldout_loss')::double as heldout_loss,
        (described.facts ->> 'heldout_accuracy')::double as heldout_accuracy,
        (described.facts ->> 'heldout_bits_per_byte')::double as heldout_bits_per_byte,
        (described.facts ->> 'flops')::double
        + if(described.embeddings_key is null, 0, (embeddings.facts ->> 'flops')::double) as pretrain_flops,
        -- What is not in the catalogue is like nothing but itself.
        md5(
            concat_ws(
                '|',
                described.seedless,
                coalesce(corpora.setting, described.corpus_key),
                described.tokenizer_key,
                coalesce(embeddings.seedless, described.embeddings_key)
            )
        )
            as pretrain_setting
    from described
    left join corpora on described.corpus_key = corpora.key
    left join described as embeddings on described.embeddings_key = embeddings.key
    where described.role in ('pretrains', 'embeds')
),

overlap_of_all as (
    select overlap.*
    from main.overlap as overlap
    inner join runs on overlap.key = runs.key
    where overlap.part = 'all'
    -- An older version of the stage may have left another measurement of the same pair.
    qualify row_number() over (
        partition by overlap.corpus_key, overlap.task_key, overlap.task_tokens_key
        order by runs.created desc, runs.key
    ) = 1
),

singles as (
    select
        described.*,
        concat_ws(
            ', ',
            coalesce(described.baseline, described.arch, described.stage),
            described.arm,
            described.budget || ' steps',
            if(described.init = 'svd', 'SVD only', null)
        ) as system,
        null::varchar as rule,
        (described.facts ->> 'test_accuracy')::double as accuracy,
        (described.facts ->> 'dev_accuracy')::double as dev_accuracy,
        (described.facts ->> 'test_items')::bigint as test_items,
        if(described.facts ->> 'parameters' is null, null, 1)::bigint as members,
        (described.facts ->> 'parameters')::bigint as parameters,
        beginnings.corpus_key as from_corpus,
        beginnings.injected_tokens,
        beginnings.heldout_loss,
        beginnings.heldout_accuracy,
        beginnings.heldout_bits_per_byte,
        beginnings.pretrain_flops,
        (described.facts ->> 'flops')::double as finetune_flops,
        md5(concat_ws('|', described.seedless, described.task_key, described.tokens_key)) as setting,
        coalesce(beginnings.pretrain_setting, described.pretrain_key, described.embeddings_key) as pretrain_setting
    from described
    left join beginnings on coalesce(described.pretrain_key, described.embeddings_key) = beginnings.key
    -- A trial of a hyperparameter search (it has no test items) and a baseline that could not be fitted are no results.
    where
        described.role = 'predicts'
        and coalesce((described.facts ->> 'test_items')::bigint, 1) > 0
        and described.facts ->> 'not_measured' is null
),

committee_members as (
    select
        members.key,
        singles.* exclude (key, setting, pretrain_setting),
        singles.key is null as is_absent,
        coalesce(singles.setting, members.member_key) as setting,
        if(singles.key is null, members.member_key, singles.pretrain_setting) as pretrain_setting
    from members
    left join singles on members.member_key = singles.key
),

-- A pre-trained model that several members began with was paid for once.
committee_pretraining as (
    select
        key,
        if(bool_or(began_with is not null and pretrain_flops is null), null, sum(pretrain_flops)) as pretrain_flops
    from (
        select distinct
            key,
            pretrain_flops,
            coalesce(pretrain_key, embeddings_key) as began_with
        from committee_members
    )
    group by key
),

committee_inputs as (
    select
        key,
        bool_or(is_absent) as is_incomplete,
        if(is_incomplete, null, sum(parameters))::bigint as parameters,
        if(is_incomplete or bool_or(finetune_flops is null), null, sum(finetune_flops)) as finetune_flops,
        if(count(distinct from_corpus) = 1, min(from_corpus), null) as from_corpus,
        if(count(distinct task_key) = 1, min(task_key), null) as task_key,
        if(count(distinct tokens_key) = 1, min(tokens_key), null) as tokens_key,
        md5(string_agg(distinct setting, '|' order by setting)) as setting,
        md5(string_agg(distinct pretrain_setting, '|' order by pretrain_setting)) as pretrain_setting
    from committee_members
    group by key
),

committee_rules as (
    select
        *,
        unnest(json_keys(facts, '$.accuracy')) as rule
    from described
    where role = 'combines'
),

committees as (
    select
        committee_rules.* exclude (rule) replace (
            committee_inputs.task_key as task_key, committee_inputs.tokens_key as tokens_key
        ),
        committee_rules.committee as system,
        committee_rules.rule,
        json_extract(facts, concat('$.accuracy."', rule, '"'))::double as accuracy,
        null::double as dev_accuracy,
        (facts ->> 'test_items')::bigint as test_items,
        (facts ->> 'members')::bigint as members,
        committee_inputs.parameters,
        committee_inputs.from_corpus,
        null::bigint as injected_tokens,
        null::double as heldout_loss,
        null::double as heldout_accuracy,
        null::double as heldout_bits_per_byte,
        if(committee_inputs.is_incomplete, null, committee_pretraining.pretrain_flops) as pretrain_flops,
        committee_inputs.finetune_flops,
        committee_inputs.setting,
        committee_inputs.pretrain_setting
    from committee_rules
    left join committee_inputs on committee_rules.key = committee_inputs.key
    left join committee_pretraining on committee_rules.key = committee_pretraining.key
),

names as (
    select
        key,
        string_agg(distinct name, ', ' order by name) as studies
    from main.studies
    group by key
),

measured as (
    select * from singles
    union all by name
    select * from committees
),

final as (
    select
        measured.key,
        measured.stage as kind,
        measured.task,
        measured.system,
        measured.arch,
        measured.arm,
        measured.budget,
        measured.rule,
        measured.init,
        measured.ws,
        measured.treatment,
        measured.treatment_task,
        measured.injected_tokens,
        measured.corpus_seed,
        measured.pretrain_seed,
        measured.finetune_seed,
        measured.accuracy,
        measured.dev_accuracy,
        measured.test_items,
        measured.members,
        measured.parameters,
        measured.pretrain_key,
        measured.from_corpus as corpus_key,
        measured.heldout_loss,
        measured.heldout_accuracy,
        measured.heldout_bits_per_byte,
        overlap_of_all.corpus_types,
        overlap_of_all.task_types,
        overlap_of_all.common_types,
        overlap_of_all.missing_from_corpus,
        overlap_of_all.missing_from_task,
        overlap_of_all.type_overlap,
        overlap_of_all.occurrence_overlap,
        overlap_of_all.jaccard,
        overlap_of_all.weighted_jaccard,
        overlap_of_all.js_divergence,
        overlap_of_all.kl_divergence,
        measured.pretrain_flops,
        measured.finetune_flops,
        measured.setting,
        measured.pretrain_setting,
        measured.task_key,
        measured.dry_run,
        names.studies,
        measured.seconds,
        measured.device,
        measured.mlflow_run_id,
        measured.mlflow_experiment_id,
        measured.git_commit,
        measured.created
    from measured
    left join names on measured.key = names.key
    left join overlap_of_all
        on
            measured.from_corpus = overlap_of_all.corpus_key
            and measured.task_key = overlap_of_all.task_key
            and measured.tokens_key = overlap_of_all.task_tokens_key
)

select * from final
order by task, kind, system, rule, ws, treatment nulls first, pretrain_seed, finetune_seed, key
