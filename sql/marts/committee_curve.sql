-- committee_curve: test accuracy of committees of each size that a committee's members make up without sharing one.
-- key: the committee artifact
-- committee: name of the committee
-- task: name of the task
-- ws: paragraphs in the pre-training set; 0 is from scratch
-- size: number of members
-- instance: which of the disjoint committees of this size, from 0 (the first members, in the committee's order)
-- rule: soft (mean of softmax), logit (mean of log-probabilities) or vote (majority)
-- accuracy: test accuracy, 0 to 1
with curve as (select * from stg_committee_curve),

runs as (select * from main.runs),

final as (
    select
        curve.key,
        runs.committee,
        runs.task,
        runs.ws,
        curve.* exclude (key)
    from curve
    left join runs on curve.key = runs.key
)

select * from final
order by key, rule, size, instance
