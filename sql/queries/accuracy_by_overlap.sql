-- Does overlap predict accuracy: every pre-trained model beside its pre-training set's overlap with the task.
-- studies: the studies that its results belong to
-- task: name of the task
-- system: the architecture, with what sets its training apart
-- ws: paragraphs in the pre-training set
-- treatment: treatment of the pre-training set, null without one
-- runs: results that the means are over
-- type_overlap: percent of the task's distinct tokens that the set holds
-- occurrence_overlap: percent of the task's token occurrences whose token the set holds
-- missing_from_corpus: distinct tokens of the task that the set lacks
-- accuracy: mean test accuracy, percent
-- accuracy_half_width: of its 95 % interval over seeds and test items, points; null with one seed
-- gap: accuracy minus that of the same system from scratch, points
-- gap_half_width: of its 95 % interval, points; null with one seed on either side
select
    studies,
    task,
    system,
    ws,
    treatment,
    runs,
    round(100 * type_overlap, 2) as type_overlap,
    round(100 * occurrence_overlap, 2) as occurrence_overlap,
    missing_from_corpus,
    round(100 * accuracy, 2) as accuracy,
    round(100 * accuracy_half_width, 2) as accuracy_half_width,
    round(100 * gap, 2) as gap,
    round(100 * gap_half_width, 2) as gap_half_width
from gaps
where kind = 'finetune' and ws > 0
order by task, system, type_overlap, ws, treatment nulls first, setting, pretrain_setting
