-- stg_committee_curve: every curve.parquet, the accuracy of each disjoint committee of `size` members.
-- file: curve.parquet
-- stages: committee
-- columns: size bigint, instance bigint, rule varchar, accuracy double
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_committee_curve_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.size::integer as size,
        contents.instance::integer as instance,
        contents.rule,
        contents.accuracy::double as accuracy
    from contents
    left join files on contents.filename = files.path
)

select * from final
