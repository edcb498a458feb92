-- studies: one row for each report of a study, and each artifact that it was made from. An artifact may belong to several.
-- key: the artifact
-- study: name of the study
-- scale: its scale, null without one
-- name: both together (ws-sweep-tiny), as `tlm report` prints them
-- report_key: the report
with runs as (select * from main.runs),

lineage as (select * from main.lineage),

final as (
    select
        lineage.input_key as key,
        runs.config ->> '$.study.name' as study,
        runs.config ->> '$.study.scale' as scale,
        concat_ws('-', runs.config ->> '$.study.name', runs.config ->> '$.study.scale') as name,
        runs.key as report_key
    from runs
    inner join lineage on runs.key = lineage.key
    where runs.stage = 'report'
)

select * from final
order by name, report_key, key
