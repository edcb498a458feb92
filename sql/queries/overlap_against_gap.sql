-- Does overlap predict the gap: that of every pre-trained model, with the half-width of its 95 % interval, beside its
-- pre-training set's overlap with the task.
select
    task,
    system,
    ws,
    treatment,
    round(100 * type_overlap, 2) as type_overlap,
    round(100 * occurrence_overlap, 2) as occurrence_overlap,
    missing_from_corpus,
    round(100 * gap, 2) as gap,
    round(100 * gap_half_width, 2) as gap_half_width
from gaps
where kind = 'finetune' and ws > 0
order by task, system, type_overlap, ws, treatment nulls first, setting, pretrain_setting
