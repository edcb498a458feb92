-- stg_injected_tokens: every removed.parquet, one row for each token that an injection took out of the corpus.
-- file: removed.parquet
-- stages: inject
-- columns: token_id integer, token varchar, corpus_count bigint, task_count bigint
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_injected_tokens_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.token_id::integer as token_id,
        contents.token,
        contents.corpus_count::bigint as corpus_count,
        contents.task_count::bigint as task_count
    from contents
    left join files on contents.filename = files.path
)

select * from final
