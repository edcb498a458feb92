-- committee_instances: which test items each disjoint soft committee gets right.
-- key: the committee artifact
-- committee: name of the committee
-- task: name of the task
-- ws: paragraphs in the pre-training set; 0 is from scratch
-- size: number of members
-- instance: which of the disjoint committees of this size, from 0 (the first members, in the committee's order)
-- correct: for each test item, by item_id, whether it is right
with instances as (select * from stg_committee_instances),

runs as (select * from main.runs),

final as (
    select
        instances.key,
        runs.committee,
        runs.task,
        runs.ws,
        instances.* exclude (key)
    from instances
    left join runs on instances.key = runs.key
)

select * from final
order by key, size, instance
