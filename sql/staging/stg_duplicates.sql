-- stg_duplicates: every duplicates.parquet, one row for each dev and test item of a task.
-- file: duplicates.parquet
-- stages: duplicates
-- columns: item_id varchar, part varchar, ngrams bigint, hits bigint
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_duplicates_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.item_id,
        contents.part,
        contents.ngrams::bigint as ngrams,
        contents.hits::bigint as hits
    from contents
    left join files on contents.filename = files.path
)

select * from final
