-- stg_overlap: every overlap.parquet, one row for each (corpus, task) and part of the task.
-- file: overlap.parquet
-- stages: overlap
-- columns: part varchar, corpus_types bigint, task_types bigint, common_types bigint, missing_from_corpus bigint,
--   missing_from_task bigint, type_overlap double, occurrence_overlap double, jaccard double, weighted_jaccard
--   double, js_divergence double, kl_divergence double
with files as (select * from raw_files),

contents as (
    select * from read_parquet(
        getvariable('stg_overlap_files'), union_by_name = true, filename = true, hive_partitioning = false
    )
),

final as (
    select
        files.key,
        contents.part,
        contents.corpus_types::bigint as corpus_types,
        contents.task_types::bigint as task_types,
        contents.common_types::bigint as common_types,
        contents.missing_from_corpus::bigint as missing_from_corpus,
        contents.missing_from_task::bigint as missing_from_task,
        contents.type_overlap,
        contents.occurrence_overlap,
        contents.jaccard,
        contents.weighted_jaccard,
        contents.js_divergence,
        contents.kl_divergence
    from contents
    left join files on contents.filename = files.path
)

select * from final
