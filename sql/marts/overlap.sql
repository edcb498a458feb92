-- overlap: token overlap of a pre-training set with a task, one row for each pair and split of the task.
-- key: the overlap artifact
-- corpus_key: the pre-training set (an artifact in the role corpus)
-- task_key: the task
-- task_tokens_key: the task's tokens (the tokenizer and the maximal length are in it)
-- task: name of the task
-- ws: paragraphs in the pre-training set
-- corpus_seed: seed of the corpus sample
-- treatment: treatment of the pre-training set, null without one
-- treatment_task: the task that the treatment is about, null if none
-- part: the split of the task: train or test; all for the whole task
-- corpus_types: distinct tokens in the pre-training set
-- task_types: distinct tokens in the task
-- common_types: distinct tokens in both
-- missing_from_corpus: distinct tokens of the task that the pre-training set lacks
-- missing_from_task: distinct tokens of the pre-training set that the task lacks
-- type_overlap: common types over task types, 0 to 1
-- occurrence_overlap: share of the task's token occurrences whose type is in the pre-training set, 0 to 1
-- jaccard: common types over types of either
-- weighted_jaccard: sum of the smaller over sum of the larger token frequency
-- js_divergence: Jensen-Shannon divergence, bits
-- kl_divergence: divergence of the task from the (smoothed) pre-training set, bits
with overlap as (select * from stg_overlap),

runs as (select * from main.runs),

edges as (
    select
        key,
        max(input_key) filter (where input_name = 'corpus') as corpus_key,
        max(input_key) filter (where input_name = 'task') as task_key,
        max(input_key) filter (where input_name = 'task_tokens') as task_tokens_key
    from main.lineage
    group by key
),

final as (
    select
        overlap.key,
        edges.corpus_key,
        edges.task_key,
        edges.task_tokens_key,
        runs.task,
        runs.ws,
        runs.corpus_seed,
        runs.treatment,
        runs.treatment_task,
        overlap.* exclude (key)
    from overlap
    left join runs on overlap.key = runs.key
    left join edges on overlap.key = edges.key
)

select * from final
order by task, ws, treatment nulls first, key, part
