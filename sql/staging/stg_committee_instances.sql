-- stg_committee_instances: every instances.parquet, which test items each disjoint soft committee gets right.
-- file: instances.parquet
-- stages: committee
-- columns: size bigint, instance bigint, correct boolean[]
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_committee_instances_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.size::integer as size,
        contents.instance::integer as instance,
        contents.correct::boolean[] as correct
    from contents
    left join files on contents.filename = files.path
)

select * from final
