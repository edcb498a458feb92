-- predictions: one row for each predicted item of each model, baseline and (committee, rule).
-- key: the finetune, baseline or committee artifact
-- kind: finetune, baseline or committee
-- rule: how the committee combined its members (soft, logit, vote); null otherwise
-- task: name of the task
-- part: the split: dev or test
-- item_id: the item
-- label: its true label
-- prediction: the predicted label
-- correct: whether they are equal
-- logits: the model's score for each label; null for committees
with models as (select * from stg_predictions),

committees as (select * from stg_committee_predictions),

runs as (select * from main.runs),

together as (
    select
        key,
        null as rule,
        part,
        item_id,
        label,
        -- The first of equal logits, as numpy's argmax.
        (list_position(logits, list_max(logits)) - 1)::integer as prediction,
        logits
    from models
    union all
    select
        key,
        rule,
        'test' as part,
        item_id,
        label,
        prediction,
        null as logits
    from committees
),

final as (
    select
        together.key,
        runs.stage as kind,
        together.rule,
        runs.task,
        together.part,
        together.item_id,
        together.label,
        together.prediction,
        together.prediction = together.label as correct,
        together.logits
    from together
    left join runs on together.key = runs.key
)

select * from final
order by key, rule, part, item_id
