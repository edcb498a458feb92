-- How much of a task's tokens does a pre-training set of Ws paragraphs hold: overlap against Ws.
-- studies: the studies that measured it
-- task: name of the task
-- treatment: treatment of the pre-training set, null without one
-- ws: paragraphs in the pre-training set
-- sets: pre-training sets of this size (seeds)
-- type_overlap: percent of the task's distinct tokens that the set holds, mean over sets
-- least: of the set that holds fewest
-- most: of the set that holds most
-- occurrence_overlap: percent of the task's token occurrences whose token the set holds, mean over sets
-- missing_tokens: distinct tokens of the task that the set lacks, mean over sets
-- js_divergence: Jensen-Shannon divergence of the two distributions of tokens, bits, mean over sets
with names as (
    select
        key,
        string_agg(distinct name, ', ' order by name) as studies
    from studies
    group by key
)

select
    names.studies,
    overlap.task,
    overlap.treatment,
    overlap.ws,
    count(*) as sets,
    round(100 * avg(overlap.type_overlap), 2) as type_overlap,
    round(100 * min(overlap.type_overlap), 2) as least,
    round(100 * max(overlap.type_overlap), 2) as most,
    round(100 * avg(overlap.occurrence_overlap), 2) as occurrence_overlap,
    round(avg(overlap.missing_from_corpus), 1) as missing_tokens,
    round(avg(overlap.js_divergence), 4) as js_divergence
from overlap
left join names on overlap.key = names.key
where overlap.part = 'all'
group by
    names.studies, overlap.task, overlap.task_key, overlap.task_tokens_key, overlap.treatment, overlap.treatment_task,
    overlap.ws
order by names.studies, overlap.task, overlap.treatment nulls first, overlap.ws, overlap.task_key
