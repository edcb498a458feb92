-- Every table's key names one row.
with counted as (
    select 'runs' as mart, key as name, count(*) as times from runs group by all
    union all
    select 'results', concat_ws(' ', key, rule), count(*) from results group by all
    union all
    select 'lineage', concat_ws(' ', key, input_name), count(*) from lineage group by all
    union all
    select 'overlap', concat_ws(' ', key, part), count(*) from overlap group by all
    union all
    select 'token_counts', concat_ws(' ', key, token_id), count(*) from token_counts group by all
    union all
    select 'injected_tokens', concat_ws(' ', key, token_id), count(*) from injected_tokens group by all
    union all
    select 'metrics', concat_ws(' ', key, name, step), count(*) from metrics group by all
    union all
    select 'predictions', concat_ws(' ', key, rule, part, item_id), count(*) from predictions group by all
    union all
    select 'committee_curve', concat_ws(' ', key, rule, size, instance), count(*) from committee_curve group by all
    union all
    select 'committee_instances', concat_ws(' ', key, size, instance), count(*) from committee_instances group by all
    union all
    select 'near_duplicates', concat_ws(' ', key, item_id), count(*) from near_duplicates group by all
)

select *
from counted
where times > 1
order by mart, name
