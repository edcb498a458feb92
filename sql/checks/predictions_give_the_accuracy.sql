-- The accuracy in the record is that of the saved predictions. Baselines are scored in float64 and saved in float32,
-- which may tip one tie.
with recomputed as (
    select
        key,
        rule,
        count(*) as predicted_items,
        avg(correct::double) as recomputed
    from predictions
    where part = 'test'
    group by all
)

select
    results.key,
    results.rule,
    results.accuracy,
    recomputed.recomputed,
    results.test_items,
    recomputed.predicted_items
from results
left join recomputed
    on results.key = recomputed.key and results.rule is not distinct from recomputed.rule
where
    recomputed.predicted_items is distinct from results.test_items
    or abs(recomputed.recomputed - results.accuracy) * results.test_items
    > if(results.kind = 'baseline', 1.5, 0.5)
