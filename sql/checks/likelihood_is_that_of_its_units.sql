-- The score in the summary is the mean over what it says it is the mean over.
with over_units as (
    select
        key,
        avg(model) as recomputed
    from likelihood_units
    group by key
)

select
    likelihood.key,
    likelihood.score,
    over_units.recomputed
from likelihood
left join over_units on likelihood.key = over_units.key
where
    over_units.recomputed is null
    or abs(likelihood.score - over_units.recomputed) > 1e-9
