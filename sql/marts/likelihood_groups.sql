-- likelihood_groups: one row for each group of items of a benchmark, and for each phenomenon, of each model that scored it.
-- key: the likelihood artifact
-- level: group (a paradigm, a subject) or phenomenon, the mean over its groups
-- phenomenon: what several groups have in common (of BLiMP), null elsewhere
-- item_group: the group; null for a phenomenon
-- items: items that are scored
-- model: the model's score, 0 to 1
-- untrained: the score of the same model before its first step
-- fewest_tokens: the score of choosing the option with the fewest tokens
-- fewest_bytes: the score of choosing the option with the fewest bytes
-- ngram: the score of a 5-gram model of the same pre-training set
with items as (select * from main.likelihood_items),

of_groups as (
    select
        key,
        'group' as level,
        phenomenon,
        item_group,
        count(model) as items,
        avg(model) as model,
        avg(untrained) as untrained,
        avg(fewest_tokens) as fewest_tokens,
        avg(fewest_bytes) as fewest_bytes,
        avg(ngram) as ngram
    from items
    where item_group is not null
    group by all
),

phenomena as (
    select
        key,
        'phenomenon' as level,
        phenomenon,
        null as item_group,
        sum(items)::bigint as items,
        avg(model) as model,
        avg(untrained) as untrained,
        avg(fewest_tokens) as fewest_tokens,
        avg(fewest_bytes) as fewest_bytes,
        avg(ngram) as ngram
    from of_groups
    where phenomenon is not null
    group by all
),

final as (
    select * from of_groups
    union all by name
    select * from phenomena
)

select * from final
order by key, level, phenomenon, item_group
