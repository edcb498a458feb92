-- stg_metrics: every metrics.parquet of pre-training and fine-tuning.
-- file: metrics.parquet
-- stages: pretrain finetune
-- columns: step bigint, epoch bigint, name varchar, value double
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_metrics_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.step::bigint as step,
        contents.epoch::bigint as epoch,
        contents.name,
        contents.value::double as value
    from contents
    left join files on contents.filename = files.path
)

select * from final
