-- What does a point of accuracy cost: the compute of pre-training over the gap that it brings, the cheapest first. FLOPs are
-- counted, the same on every device; only what was made by a version that counts them has any.
-- studies: the studies that its results belong to
-- task: name of the task
-- system: the architecture or the committee
-- rule: how the committee combines its members; null otherwise
-- ws: paragraphs in the pre-training set
-- treatment: treatment of the pre-training set, null without one
-- members: models that predict together
-- parameters: trainable parameters of all members
-- pretrain_teraflops: 10^12 floating point operations of pre-training, of all members
-- finetune_teraflops: those of fine-tuning, which the same system from scratch needs too
-- accuracy: mean test accuracy, percent
-- gap: accuracy minus that of the same system from scratch, points
-- resolved: whether the 95 % interval of the gap excludes 0; never with one seed on either side
-- teraflops_per_point: pretrain_teraflops over the gap; null where pre-training brings nothing
select
    studies,
    task,
    system,
    rule,
    ws,
    treatment,
    members,
    parameters,
    round(pretrain_flops / 1e12, 3) as pretrain_teraflops,
    round(finetune_flops / 1e12, 3) as finetune_teraflops,
    round(100 * accuracy, 2) as accuracy,
    round(100 * gap, 2) as gap,
    resolved,
    if(gap > 0, round(pretrain_flops / 1e12 / (100 * gap), 4), null) as teraflops_per_point
from gaps
where ws > 0 and pretrain_flops is not null and gap is not null
order by
    task, teraflops_per_point nulls last, system, rule, ws, treatment nulls first, setting, pretrain_setting
