-- likelihood: one row for each pre-trained model and benchmark: how often the right option is the likeliest.
-- key: the likelihood artifact
-- task: name of the benchmark
-- normalization: what an option's log probability was compared as: its sum, or per_byte
-- arch: architecture
-- arm: the arm of its study, whose way to train it is; null where there are none
-- budget: pre-training steps that the arm asks for, where it has several numbers of them
-- system: the architecture, with arm and budget
-- ws: paragraphs in the pre-training set
-- treatment: what was done to the pre-training set beyond drawing Ws paragraphs at random, null for nothing
-- corpus_seed: seed of the corpus sample
-- pretrain_seed: seed of pre-training
-- average: what the score is the mean over: items, or groups of items
-- items: items of the benchmark
-- not_scored: items of which an option does not fit the model's length; in no score
-- cut: items of which a prefix lost its beginning
-- ties: items of which k options share the highest score with the right one; they count 1/k
-- contained: items of whose right option the pre-training set holds 13 tokens in a row (all of it, if it is shorter)
-- dry_run: whether a training of it, or of what it was made from, was ended early (max_steps): its numbers mean nothing
-- score: share of items of which the right option is the likeliest, 0 to 1
-- se: its standard error, over what it is the mean of
-- item_se: its standard error over items, groups being given
-- chance: the score of guessing
-- untrained: the score of the same model before its first step
-- fewest_tokens: the score of choosing the option with the fewest tokens
-- fewest_bytes: the score of choosing the option with the fewest bytes
-- ngram: the score of a 5-gram model of the same pre-training set
-- over_untrained_se: standard error of score − untrained, paired
-- over_fewest_tokens_se: standard error of score − fewest_tokens, paired
-- over_fewest_bytes_se: standard error of score − fewest_bytes, paired
-- over_ngram_se: standard error of score − ngram, paired
-- score_not_contained: the score of items of which the pre-training set holds nothing
-- threshold: confidence at which tokens leave at an exit; null where all layers are used
-- layers: share of the layers that tokens of the benchmark used; null likewise
-- flops_share: operations over those of the whole model on the same text, if it predicts from every token; null likewise
-- heldout_bits_per_byte: loss of the model on held-out text, bits for each byte; null unless it predicts everything, and of a compressed one
-- setting: digest of the benchmark, the normalization, the pre-training and its set, its compression, without the seed: equal ones differ in that only
-- mlflow_run_id: MLflow run that made it, null if runs were not tracked
-- mlflow_experiment_id: MLflow experiment of that run
with likelihood as (select * from stg_likelihood),

runs as (select * from main.runs),

edges as (select * from main.lineage),

models as (
    select
        scored.key,
        concat_ws(
            '|',
            json_merge_patch(pretrained.config, '{"seed": null}')::varchar,
            given.input_key,
            if(scores.stage = 'option_scores', null, scores.config::varchar),
            if(asked.stage = 'pretrain', null, asked.config::varchar)
        ) as setting,
        (scores.facts ->> 'threshold')::double as threshold,
        (scores.facts ->> 'layers')::double as layers,
        (scores.facts ->> 'flops_share')::double as flops_share,
        (asked.facts ->> 'heldout_bits_per_byte')::double as heldout_bits_per_byte
    from edges as scored
    inner join runs as scores on scored.input_key = scores.key
    inner join edges as model on scored.input_key = model.key and model.input_name = 'model'
    inner join runs as asked on model.input_key = asked.key
    left join edges as whole on asked.key = whole.key and whole.input_name = 'model' and asked.stage != 'pretrain'
    inner join runs as pretrained on coalesce(whole.input_key, asked.key) = pretrained.key
    inner join edges as given on pretrained.key = given.key and given.input_name = 'corpus'
    where scored.input_name = 'scores'
),

final as (
    select
        likelihood.key,
        runs.task,
        runs.config ->> 'normalization' as normalization,
        runs.arch,
        runs.arm,
        runs.budget,
        concat_ws(', ', runs.arch, runs.arm, runs.budget || ' steps') as system,
        runs.ws,
        runs.treatment,
        runs.corpus_seed,
        runs.pretrain_seed,
        likelihood.average,
        likelihood.items,
        likelihood.not_scored,
        likelihood.cut,
        likelihood.ties,
        likelihood.contained,
        runs.dry_run,
        likelihood.score,
        likelihood.se,
        likelihood.item_se,
        likelihood.chance,
        likelihood.untrained,
        likelihood.fewest_tokens,
        likelihood.fewest_bytes,
        likelihood.ngram,
        likelihood.over_untrained_se,
        likelihood.over_fewest_tokens_se,
        likelihood.over_fewest_bytes_se,
        likelihood.over_ngram_se,
        likelihood.score_not_contained,
        models.threshold,
        models.layers,
        models.flops_share,
        models.heldout_bits_per_byte,
        md5(concat_ws('|', runs.config::varchar, benchmark.input_key, models.setting)) as setting,
        runs.mlflow_run_id,
        runs.mlflow_experiment_id
    from likelihood
    left join runs on likelihood.key = runs.key
    left join edges as benchmark on likelihood.key = benchmark.key and benchmark.input_name = 'benchmark'
    left join models on likelihood.key = models.key
)

select * from final
order by task, normalization, arch, arm, budget, ws, treatment nulls first, pretrain_seed, key
