-- Every row of every table belongs to an artifact in `runs`.
with keys as (
    select distinct 'results' as mart, key from results
    union all
    select distinct 'overlap', key from overlap
    union all
    select distinct 'token_counts', key from token_counts
    union all
    select distinct 'injected_tokens', key from injected_tokens
    union all
    select distinct 'metrics', key from metrics
    union all
    select distinct 'predictions', key from predictions
    union all
    select distinct 'committee_curve', key from committee_curve
    union all
    select distinct 'committee_instances', key from committee_instances
    union all
    select distinct 'near_duplicates', key from near_duplicates
)

select keys.*
from keys
anti join runs on keys.key = runs.key
order by keys.mart, keys.key
