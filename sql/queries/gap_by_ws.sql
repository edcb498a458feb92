-- How much does pre-training help, by Ws: every system against itself from scratch.
-- task: name of the task
-- system: the architecture or the committee
-- rule: how the committee combines its members; null otherwise
-- ws: paragraphs in the pre-training set
-- runs: results that the means are over
-- accuracy: mean test accuracy, percent
-- scratch: that of the same system from scratch, percent
-- gap: their difference, points
-- gap_half_width: of its 95 % interval, points; null with one seed on either side
-- resolved: whether that interval excludes 0; never with one seed on either side
-- dry_run: whether trainings were ended early: its numbers mean nothing
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
    resolved,
    dry_run
from gaps
where kind in ('finetune', 'committee') and ws > 0 and treatment is null
order by task, system, rule, ws, setting, pretrain_setting
