-- An injection's record counts the tokens in its list, and the recomputed overlap with its task finds none of them.
with listed as (
    select
        key,
        count(*) as tokens
    from injected_tokens
    group by key
),

still_there as (
    select
        injected_tokens.key,
        count(*) as tokens
    from injected_tokens
    inner join lineage on injected_tokens.key = lineage.input_key and lineage.input_name = 'corpus'
    inner join token_counts
        on lineage.key = token_counts.key and injected_tokens.token_id = token_counts.token_id
    where token_counts.corpus_count > 0
    group by injected_tokens.key
)

select
    runs.key,
    runs.facts ->> 'removed' as recorded,
    coalesce(listed.tokens, 0) as listed,
    coalesce(still_there.tokens, 0) as still_there
from runs
left join listed on runs.key = listed.key
left join still_there on runs.key = still_there.key
where
    runs.stage = 'inject'
    and ((runs.facts ->> 'removed')::bigint != coalesce(listed.tokens, 0) or still_there.tokens > 0)
