-- Can a committee replace one (deeper) model: every committee beside every single architecture on the same task and Ws.
-- Mind that a catalogue may hold several studies; `committee` and `single` are compared by task, Ws and test items only.
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
    committees.standard_error as committee_error,
    singles.system as single,
    singles.parameters as single_parameters,
    singles.accuracy as single_accuracy,
    singles.standard_error as single_error,
    committees.accuracy - singles.accuracy as difference,
    sqrt(committees.standard_error ** 2 + singles.standard_error ** 2) as difference_error
from committees
inner join singles
    on
        committees.task = singles.task
        and committees.ws = singles.ws
        and committees.test_items = singles.test_items
order by committees.task, committees.ws, committee, committees.rule, single, committees.setting, singles.setting
