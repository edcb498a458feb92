-- studies: one row for each report of a study, and each artifact that it was made from. An artifact may belong to several.
-- key: the artifact
-- study: name of the study
-- scale: its scale, null without one
-- name: both together (ws-sweep-tiny), as `tlm report` prints them; of a dry run, followed by (dry run)
-- report_key: the report
-- dry_run: whether that report is of a dry run, whose trainings were ended early: its numbers mean nothing
with runs as (select * from main.runs),

lineage as (select * from main.lineage),

final as (
    select
        lineage.input_key as key,
        runs.config ->> '$.study.name' as study,
        runs.config ->> '$.study.scale' as scale,
        concat_ws('-', runs.config ->> '$.study.name', runs.config ->> '$.study.scale')
        || if(runs.dry_run, ' (dry run)', '') as name,
        runs.key as report_key,
        runs.dry_run
    from runs
    inner join lineage on runs.key = lineage.key
    where runs.stage = 'report'
)

select * from final
order by name, report_key, key
