-- stg_token_counts: every token_counts.parquet, one row for each token that the corpus or the task holds.
-- file: token_counts.parquet
-- stages: overlap
-- columns: token_id integer, token varchar, corpus_count bigint, task_count bigint, corpus_documents bigint,
--   task_documents bigint
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_token_counts_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.token_id::integer as token_id,
        contents.token,
        contents.corpus_count::bigint as corpus_count,
        contents.corpus_documents::bigint as corpus_documents,
        contents.task_count::bigint as task_count,
        contents.task_documents::bigint as task_documents
    from contents
    left join files on contents.filename = files.path
)

select * from final
