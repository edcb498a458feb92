-- stg_records: one row for each complete artifact, from its record.json and what its stage says of itself.
-- `raw_records` is handed over by tlm.artifacts.catalogue, which also makes a view stg_<table> of each declared table.
with records as (select * from raw_records),

final as (
    select
        key,
        stage,
        role,
        slug,
        version,
        path,
        seconds::double as seconds,
        created::timestamp as created,
        config::json as config,
        inputs::json as inputs,
        labels::json as labels,
        facts::json as facts,
        provenance::json as provenance,
        outputs::json as outputs,
        left_behind is not null as without_weights,
        dry_run::boolean as dry_run,
        mlflow ->> 'run_id' as mlflow_run_id,
        mlflow ->> 'experiment_id' as mlflow_experiment_id
    from records
)

select * from final
