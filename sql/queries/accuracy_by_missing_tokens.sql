-- What do missing tokens cost at fixed Ws: the injected pre-training sets beside the ones they were made from.
-- task: name of the task
-- system: the architecture
-- ws: paragraphs in the pre-training set
-- treatment: the injection (selection-removal-amount), null without one
-- injected_tokens: distinct tokens that it removed
-- missing_from_corpus: distinct tokens of the task that the set lacks
-- runs: results that the mean is over
-- accuracy: mean test accuracy, 0 to 1
-- accuracy_half_width: of its 95 % interval; null with one seed
-- dry_run: whether trainings were ended early: its numbers mean nothing
with injected as (
    select distinct
        task,
        system,
        setting,
        ws
    from gaps
    where injected_tokens is not null and task = treatment_task
),

final as (
    select gaps.*
    from gaps
    semi join injected
        on
            gaps.task = injected.task
            and gaps.system = injected.system
            and gaps.setting = injected.setting
            and gaps.ws = injected.ws
    where gaps.kind = 'finetune' and (gaps.treatment is null or gaps.injected_tokens is not null)
)

select
    task,
    system,
    ws,
    treatment,
    injected_tokens,
    missing_from_corpus,
    runs,
    accuracy,
    accuracy_half_width,
    dry_run
from final
order by task, system, ws, missing_from_corpus, treatment nulls first, setting, pretrain_setting
