-- How much does pre-training help, by Ws: every system against itself from scratch. In percent and points, with the
-- half-width of the gap's 95 % interval; a gap is resolved if that interval excludes 0.
select
    task,
    system,
    rule,
    ws,
    runs,
    round(100 * accuracy, 2) as accuracy,
    round(100 * scratch_accuracy, 2) as scratch,
    round(100 * gap, 2) as gap,
    round(100 * gap_half_width, 2) as gap_half_width,
    resolved
from gaps
where kind in ('finetune', 'committee') and ws > 0 and treatment is null
order by task, system, rule, ws, setting, pretrain_setting
