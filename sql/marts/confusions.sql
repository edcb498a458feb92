-- confusions: the confusion matrix of each result, one row for each pair of labels that occurs in it (test items).
-- key: the artifact whose predictions they are
-- rule: how the committee combined its members (soft, logit, vote); null otherwise
-- label: the true label (its name is in labels)
-- prediction: the predicted label
-- items: test items
with predictions as (select * from main.predictions),

final as (
    select
        key,
        rule,
        label,
        prediction,
        count(*) as items
    from predictions
    where part = 'test'
    group by all
)

select * from final
order by key, rule, label, prediction
