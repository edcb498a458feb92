-- Is a committee better than its best member: the member that is best on the dev split, as a user would choose it. No
-- interval stands beside the difference; that of a committee and its mean member is a verdict of `tlm report`.
-- studies: the studies that the committee belongs to
-- task: name of the task
-- ws: paragraphs in the members' pre-training sets; 0 is from scratch
-- committee: name of the committee
-- rule: how it combines its members: soft, logit or vote
-- key: the committee's artifact
-- members: models that predict together
-- accuracy: the committee's test accuracy, percent
-- member: the best member on dev (of equal ones the first by name and seeds)
-- pretrain_seed: its seed of pre-training, null from scratch
-- finetune_seed: its seed of fine-tuning
-- member_accuracy: its test accuracy, percent
-- difference: the committee's accuracy minus the member's, points
-- mean_member_accuracy: mean test accuracy of the members, percent
-- luckiest_accuracy: that of the member that happens to be best on test, percent: nobody could choose it
with committees as (select * from results where kind = 'committee'),

members as (
    select
        lineage.key,
        results.system,
        results.pretrain_seed,
        results.finetune_seed,
        results.accuracy,
        avg(results.accuracy) over (partition by lineage.key) as mean_accuracy,
        max(results.accuracy) over (partition by lineage.key) as luckiest_accuracy
    from lineage
    inner join results on lineage.input_key = results.key and results.rule is null
    qualify row_number() over (
        partition by lineage.key
        order by
            results.dev_accuracy desc nulls last, results.system, results.pretrain_seed nulls first,
            results.finetune_seed, results.key
    ) = 1
)

select
    committees.studies,
    committees.task,
    committees.ws,
    committees.system as committee,
    committees.rule,
    committees.key,
    committees.members,
    round(100 * committees.accuracy, 2) as accuracy,
    members.system as member,
    members.pretrain_seed,
    members.finetune_seed,
    round(100 * members.accuracy, 2) as member_accuracy,
    round(100 * (committees.accuracy - members.accuracy), 2) as difference,
    round(100 * members.mean_accuracy, 2) as mean_member_accuracy,
    round(100 * members.luckiest_accuracy, 2) as luckiest_accuracy
from committees
inner join members on committees.key = members.key
order by committees.task, committees.ws, committee, committees.rule, committees.key
