-- stg_committee_predictions: every predictions.parquet of committees, one row for each test item and rule.
-- file: predictions.parquet
-- stages: committee
-- columns: item_id varchar, rule varchar, label bigint, prediction bigint
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_committee_predictions_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.item_id::varchar as item_id,
        contents.rule,
        contents.label::integer as label,
        contents.prediction::integer as prediction
    from contents
    left join files on contents.filename = files.path
)

select * from final
