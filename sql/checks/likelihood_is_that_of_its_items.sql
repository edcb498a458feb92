-- The score in the summary is the mean over the items, or over the groups, that were saved with it.
with over_items as (
    select
        key,
        count(*) as saved_items,
        avg(model) as recomputed
    from likelihood_items
    group by key
),

over_groups as (
    select
        key,
        avg(model) as recomputed
    from likelihood_groups
    where level = 'group'
    group by key
)

select
    likelihood.key,
    likelihood.score,
    if(likelihood.average = 'groups', over_groups.recomputed, over_items.recomputed) as recomputed
from likelihood
left join over_items on likelihood.key = over_items.key
left join over_groups on likelihood.key = over_groups.key
where
    over_items.saved_items is distinct from likelihood.items
    or abs(likelihood.score - if(likelihood.average = 'groups', over_groups.recomputed, over_items.recomputed)) > 1e-9
