-- The counts of every overlap agree with each other, and with the token table.
with counted as (
    select
        key,
        count(*) filter (where corpus_count > 0) as corpus_types,
        count(*) filter (where task_count > 0) as task_types,
        count(*) filter (where corpus_count > 0 and task_count > 0) as common_types
    from token_counts
    group by key
)

select
    overlap.key,
    overlap.part,
    overlap.corpus_types,
    overlap.task_types,
    overlap.common_types,
    overlap.missing_from_corpus,
    overlap.missing_from_task
from overlap
left join counted on overlap.key = counted.key
where
    overlap.common_types + overlap.missing_from_corpus != overlap.task_types
    or overlap.common_types + overlap.missing_from_task != overlap.corpus_types
    or abs(overlap.type_overlap - overlap.common_types / overlap.task_types) > 1e-6
    or not overlap.occurrence_overlap between 0 and 1
    or (
        overlap.part = 'all'
        and (counted.corpus_types, counted.task_types, counted.common_types)
        is distinct from (overlap.corpus_types, overlap.task_types, overlap.common_types)
    )
