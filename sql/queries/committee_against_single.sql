-- Can a committee replace one (deeper) model: every committee beside every single architecture on the same task and Ws. Mind
-- that a catalogue may hold several studies; the two are compared by task, Ws and test items only; no dry run is set beside
-- what was trained to its end.
-- task: name of the task
-- ws: paragraphs in the pre-training sets; 0 is from scratch
-- committee: name of the committee
-- rule: how it combines its members: soft, logit or vote
-- members: models that predict together
-- committee_parameters: trainable parameters of all members
-- committee_accuracy: its mean test accuracy, 0 to 1
-- committee_half_width: of its 95 % interval; null of a single committee
-- single: the architecture
-- single_parameters: its trainable parameters
-- single_accuracy: its mean test accuracy, 0 to 1
-- single_half_width: of its 95 % interval; null with one seed
-- difference: committee_accuracy minus single_accuracy
-- dry_run: whether trainings were ended early: its numbers mean nothing
with committees as (select * from gaps where kind = 'committee'),

singles as (select * from gaps where kind = 'finetune' and treatment is null)

select
    committees.task,
    committees.ws,
    committees.system as committee,
    committees.rule,
    committees.members,
    committees.parameters as committee_parameters,
    committees.accuracy as committee_accuracy,
    committees.accuracy_half_width as committee_half_width,
    singles.system as single,
    singles.parameters as single_parameters,
    singles.accuracy as single_accuracy,
    singles.accuracy_half_width as single_half_width,
    committees.accuracy - singles.accuracy as difference,
    committees.dry_run
from committees
inner join singles
    on
        committees.task = singles.task
        and committees.ws = singles.ws
        and committees.test_items = singles.test_items
        and committees.dry_run = singles.dry_run
order by committees.task, committees.ws, committee, committees.rule, single, committees.setting, singles.setting
