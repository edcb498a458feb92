"""MLflow: a parent run for each study, a child for each step, metrics, dataset inputs with digests, logged models.

Records decide what is cached; MLflow is a view of them, which may lag behind and can be made again. Every call names its
run id, because MLflow's notion of an active run belongs to one thread.

From the bottom: `database` (MLflow's own file) and `connecting`; `recorded` and `runs`, what a record says of its run and
what that run holds; `processes`, who has runs open; `view`, which run made an artifact; `ending` and `settling`, how runs
end, also those of the dead; `outbox`, so that nobody waits; `study` and `step_run`, runs of what is being made; `grouping`
and `rebuilding`, `tlm track`.
"""
