-- The published results (docs/published) as views that bear the names and the columns of the catalogue's marts, so that a query
-- runs on either. From the root of the repository, with DuckDB and nothing else:
--
--     duckdb -init sql/published.sql                              (then: .read sql/queries/gap_by_ws.sql)
--     python -i -c "import duckdb; duckdb.execute(open('sql/published.sql').read())"     (then: duckdb.sql("from gaps"))
--
-- An artifact that several studies share is one row here, as in the catalogue. What is not published, because it would be many
-- times as large: the predicted label of each item (`confusions` has their numbers, docs/published which items are right), the
-- loss of training batches in `metrics`, and in `token_counts` all but the 50 most frequent missing tokens of each pair.
-- No dry run is published: the column dry_run is there for the queries, which show it.

create or replace view studies as
select
    runs.key,
    studies.study ->> '$.name' as study,
    studies.study ->> '$.scale' as scale,
    concat_ws('-', studies.study ->> '$.name', studies.study ->> '$.scale') as name,
    studies.report_key,
    false as dry_run
from read_parquet('docs/published/*/runs.parquet', filename = true) as runs
inner join read_parquet('docs/published/*/study.parquet', filename = true) as studies
    on parse_dirpath(runs.filename) = parse_dirpath(studies.filename);

create or replace view runs as
select distinct on (key)
    * exclude (filename),
    false as dry_run
from read_parquet('docs/published/*/runs.parquet', filename = true)
order by key, filename;

create or replace view results as
with names as (
    select
        key,
        string_agg(distinct name, ', ' order by name) as studies
    from studies
    group by key
)

select distinct on (results.key, results.rule)
    results.* exclude (filename),
    false as dry_run,
    names.studies
from read_parquet('docs/published/*/results.parquet', filename = true) as results
left join names on results.key = names.key
order by results.key, results.rule, results.filename;

-- Of a comparison that several studies make, the one with the most runs.
create or replace view gaps as
with published as (
    select
        *,
        list(parse_path(filename)[-2]) over same as names
    from read_parquet('docs/published/*/gaps.parquet', filename = true)
    window same as (
        partition by task, kind, system, rule, ws, treatment, treatment_task, setting, pretrain_setting
    )
)

select distinct on (task, kind, system, rule, ws, treatment, treatment_task, setting, pretrain_setting)
    * exclude (filename, names),
    false as dry_run,
    array_to_string(list_sort(names), ', ') as studies
from published
order by runs desc, filename;

create or replace view overlap as
select distinct on (key, part) * exclude (filename)
from read_parquet('docs/published/*/overlap.parquet', filename = true)
order by key, part, filename;

create or replace view token_counts as
select distinct on (key, token_id)
    * exclude (filename),
    0 as corpus_count
from read_parquet('docs/published/*/missing_tokens.parquet', filename = true)
order by key, token_id, filename;

create or replace view lineage as
select distinct * from read_parquet('docs/published/*/lineage.parquet');

create or replace view labels as
select distinct on (task_key, label) * exclude (filename)
from read_parquet('docs/published/*/labels.parquet', filename = true)
order by task_key, label, filename;

create or replace view confusions as
with published as (
    select distinct on (key, rule) * exclude (filename)
    from read_parquet('docs/published/*/confusions.parquet', filename = true)
    order by key, rule, filename
)

select
    key,
    rule,
    unnest(label) as label,
    unnest(prediction) as prediction,
    unnest(items) as items
from published;

create or replace view metrics as
select distinct on (key, name, step) * exclude (filename)
from read_parquet('docs/published/*/metrics.parquet', filename = true)
order by key, name, step, filename;
