-- committee_curve: test accuracy of a committee's first members.
-- key: the committee artifact
-- committee: name of the committee
-- task: name of the task
-- ws: paragraphs in the pre-training set; 0 is from scratch
-- size: number of members, in their order
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
order by key, rule, size
