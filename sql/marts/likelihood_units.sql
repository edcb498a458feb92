-- likelihood_units: one row for each unit of a score, and each model: what the score is the mean over.
-- key: the likelihood artifact
-- unit: a group of items (of BLiMP a paradigm) where the score is a mean over groups; else an item
-- items: items of the unit that are scored
-- model: the model's score, 0 to 1
-- untrained: the score of the same model before its first step
-- fewest_tokens: the score of choosing the option with the fewest tokens
-- fewest_bytes: the score of choosing the option with the fewest bytes
-- ngram: the score of a 5-gram model of the same pre-training set
with items as (select * from main.likelihood_items),

scores as (select * from main.likelihood),

final as (
    select
        items.key,
        if(scores.average = 'groups', items.item_group, items.item_id) as unit,
        count(*) as items,
        avg(items.model) as model,
        avg(items.untrained) as untrained,
        avg(items.fewest_tokens) as fewest_tokens,
        avg(items.fewest_bytes) as fewest_bytes,
        avg(items.ngram) as ngram
    from items
    inner join scores on items.key = scores.key
    where items.model is not null
    group by all
)

select * from final
order by key, unit
