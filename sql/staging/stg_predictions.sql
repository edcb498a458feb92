-- stg_predictions: every predictions.parquet of fine-tuned models and baselines.
-- file: predictions.parquet
-- stages: finetune baseline
-- columns: item_id varchar, part varchar, label bigint, logits float[]
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_predictions_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.item_id::varchar as item_id,
        contents.part,
        contents.label::integer as label,
        contents.logits
    from contents
    left join files on contents.filename = files.path
)

select * from final
