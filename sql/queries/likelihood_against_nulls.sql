-- How often is the right option of a benchmark's items the likeliest, beside what needs no learning: means over seeds, percent.
-- It needs the catalogue: standard errors over items are not published, only the scores that they are of.
-- task: name of the benchmark
-- normalization: what an option's log probability was compared as: its sum, or per_byte
-- system: the architecture, with what sets its training apart
-- ws: paragraphs in the pre-training set
-- treatment: treatment of the pre-training set, null without one
-- seeds: pre-trained models that the means are over
-- score: items of which the right option is the likeliest
-- se: its standard error, over items or groups of them
-- seed_sd: standard deviation over seeds
-- chance: the score of guessing
-- untrained: the score of the same model before its first step
-- fewest_tokens: the score of choosing the option with the fewest tokens
-- fewest_bytes: the score of choosing the option with the fewest bytes
-- ngram: the score of a 5-gram model of the same pre-training set
-- score_not_contained: the score of items of which the pre-training set holds nothing
-- above_every_null: whether it is above each by two standard errors of the paired difference
-- items: items of the benchmark
-- not_scored: items of which an option does not fit the model's length
-- cut: items of which a prefix lost its beginning
-- ties: items of which several options share the highest score with the right one
-- contained: items of whose right option the pre-training set holds 13 tokens in a row
-- dry_run: whether trainings were ended early: its numbers mean nothing
-- results: MLflow run and experiment of each
with likelihood as (select * from main.likelihood),

over_seeds as (
    select
        task,
        normalization,
        system,
        ws,
        treatment,
        dry_run,
        count(*) as seeds,
        avg(score) as score,
        sqrt(avg(se * se)) as se,
        stddev_samp(score) as seed_sd,
        avg(chance) as chance,
        avg(untrained) as untrained,
        avg(fewest_tokens) as fewest_tokens,
        avg(fewest_bytes) as fewest_bytes,
        avg(ngram) as ngram,
        avg(score_not_contained) as score_not_contained,
        min(items) as items,
        max(not_scored) as not_scored,
        max(cut) as cut,
        max(ties) as ties,
        max(contained) as contained,
        avg(score - untrained) > 2 * sqrt(avg(over_untrained_se * over_untrained_se))
        and avg(score - fewest_tokens) > 2 * sqrt(avg(over_fewest_tokens_se * over_fewest_tokens_se))
        and avg(score - fewest_bytes) > 2 * sqrt(avg(over_fewest_bytes_se * over_fewest_bytes_se))
        and avg(score - ngram) > 2 * sqrt(avg(over_ngram_se * over_ngram_se)) as above_every_null,
        list({'run_id': mlflow_run_id, 'experiment_id': mlflow_experiment_id} order by key) as results
    from likelihood
    group by task, normalization, system, ws, treatment, setting, dry_run
)

select
    task,
    normalization,
    system,
    ws,
    treatment,
    seeds,
    round(100 * score, 2) as score,
    round(100 * se, 2) as se,
    round(100 * seed_sd, 2) as seed_sd,
    round(100 * chance, 2) as chance,
    round(100 * untrained, 2) as untrained,
    round(100 * fewest_tokens, 2) as fewest_tokens,
    round(100 * fewest_bytes, 2) as fewest_bytes,
    round(100 * ngram, 2) as ngram,
    round(100 * score_not_contained, 2) as score_not_contained,
    above_every_null,
    items,
    not_scored,
    cut,
    ties,
    contained,
    dry_run,
    results
from over_seeds
order by task, normalization, system, ws, treatment nulls first, items
