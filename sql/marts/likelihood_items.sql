-- likelihood_items: one row for each item of a benchmark and each model that scored it.
-- key: the likelihood artifact
-- item_id: the item
-- item_group: its paradigm, subject or other group, null if items have none
-- phenomenon: what several groups have in common (of BLiMP), null elsewhere
-- contained: whether the pre-training set holds 13 tokens in a row of its right option
-- model: what the model earns: 1 if the right option is the likeliest, 1/k if k options are, else 0; null if it is not scored
-- untrained: what the same model earns before its first step
-- fewest_tokens: what choosing the option with the fewest tokens earns
-- fewest_bytes: what choosing the option with the fewest bytes earns
-- ngram: what a 5-gram model of the same pre-training set earns
with items as (select * from stg_likelihood_items),

final as (
    select
        key,
        item_id,
        item_group,
        phenomenon,
        contained,
        model,
        untrained,
        fewest_tokens,
        fewest_bytes,
        ngram
    from items
)

select * from final
order by key, item_group, item_id
