-- How much do seeds matter: the spread of equal runs that differ in their seeds alone.
-- studies: the studies that its results belong to; a semicolon stands between those of different results
-- task: name of the task
-- system: the architecture or the committee
-- rule: how the committee combines its members; null otherwise
-- ws: paragraphs in the pre-training set; 0 is from scratch
-- treatment: treatment of the pre-training set, null without one
-- runs: results
-- pretrain_seeds: seeds of pre-training among them; 0 from scratch
-- accuracy: mean test accuracy, percent
-- lowest: of the worst run, percent
-- highest: of the best run, percent
-- sd: standard deviation over runs, points
-- sd_finetune: over runs that began with one pre-trained model (committees, and from scratch: over all), points; null if each has one run
-- sd_pretrain: of the means of pre-trained models, points, what their fine-tuning seeds bring included; null if there is one
-- sd_items: what drawing other test items alone would bring, points (binomial)
with runs_of_models as (
    select
        *,
        avg(accuracy) over of_model as model_accuracy,
        row_number() over (of_model order by finetune_seed, key) = 1 as stands_for_model
    from results
    where kind != 'baseline'
    window of_model as (partition by task, system, rule, ws, treatment, setting, pretrain_setting, pretrain_key)
)

select
    string_agg(distinct studies, '; ' order by studies) as studies,
    task,
    system,
    rule,
    ws,
    treatment,
    count(*) as runs,
    count(distinct pretrain_key) as pretrain_seeds,
    round(100 * avg(accuracy), 2) as accuracy,
    round(100 * min(accuracy), 2) as lowest,
    round(100 * max(accuracy), 2) as highest,
    round(100 * stddev_samp(accuracy), 2) as sd,
    round(
        100 * sqrt(
            sum((accuracy - model_accuracy) ** 2) / nullif(count(*) - count(*) filter (where stands_for_model), 0)
        ),
        2
    ) as sd_finetune,
    round(100 * stddev_samp(model_accuracy) filter (where stands_for_model), 2) as sd_pretrain,
    round(100 * sqrt(avg(accuracy) * (1 - avg(accuracy)) / min(test_items)), 2) as sd_items
from runs_of_models
group by task, system, rule, ws, treatment, setting, pretrain_setting
order by task, system, rule, ws, treatment nulls first, setting, pretrain_setting
