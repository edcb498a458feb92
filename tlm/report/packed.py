"""The marts that analyses read, in little room: of each result which test items it got right, as one list of booleans.

A list stands in the order of the task's items (table `items`), so that neither ids nor labels are repeated. Parquet keeps a
boolean in a bit. What is published, what is rehearsed and what tests make up has this form; `unpacked` gives the marts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tlm.artifacts.marts import in_memory
from tlm.artifacts.sql_models import column_descriptions
from tlm.report.marts import SCORES_BY_UNIT

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection

Tables = Mapping[str, pa.Table]
"""By the names of `SCHEMAS`."""

_INTEGERS = {
    *("ws", "size", "instance", "pretrain_seed", "finetune_seed", "corpus_seed", "members", "parameters", "test_items"),
    *("injected_tokens", "corpus_types", "task_types", "common_types", "missing_from_corpus", "missing_from_task"),
    *("budget", "token_id", "corpus_count", "corpus_documents", "task_count", "task_documents"),
    *("runs", "seeds", "items", "step", "epoch"),
}
_NUMBERS = {
    *("accuracy", "dev_accuracy", "heldout_loss", "heldout_accuracy", "seconds", "type_overlap", "occurrence_overlap"),
    *("jaccard", "weighted_jaccard", "js_divergence", "kl_divergence", "pretrain_flops", "finetune_flops", "chance"),
    *("accuracy_half_width", "scratch_accuracy", "gap", "gap_half_width", "value"),
    *("heldout_bits_per_byte", "layers", "flops_share"),
}
_RIGHT = pa.list_(pa.bool_())
_SCORES = pa.list_(pa.float64())


def _type(column: str) -> pa.DataType:
    if column == "created":
        return pa.timestamp("us")
    if column in ("without_weights", "resolved"):
        return pa.bool_()
    if column in ("label", "prediction"):
        return pa.int32()
    return pa.int64() if column in _INTEGERS else pa.float64() if column in _NUMBERS else pa.string()


def _schema(*columns: str, **typed: pa.DataType) -> pa.Schema:
    return pa.schema([*{**{name: _type(name) for name in columns}, **typed}.items()])


def _columns(mart: str, *without: str) -> list[str]:
    return [name for name in column_descriptions(mart) if name not in without]


RUNS = (
    *("key", "stage", "role", "slug", "ws", "arch", "task", "treatment", "committee", "baseline", "pretrain_seed"),
    *(
        "finetune_seed",
        "seconds",
        "facts",
        "git_commit",
        "device",
        "without_weights",
        "mlflow_run_id",
        "mlflow_experiment_id",
    ),
    *("created", "config"),
)
"""Of the mart `runs` what analyses look up, and what leads back to where an artifact comes from."""

SCHEMAS: dict[str, pa.Schema] = {
    "results": _schema(*_columns("results", "dry_run", "studies")),
    "items": _schema("task", "item_id", "label"),
    "correct": _schema("key", correct=_RIGHT),
    "committee_instances": _schema("key", "committee", "task", "ws", "size", "instance", correct=_RIGHT),
    "near_duplicates": _schema("key", "task", "ws", "treatment", held=_RIGHT),
    "overlap": _schema(*column_descriptions("overlap")),
    "token_counts": _schema("key", "task", "ws", "treatment", "corpus_count", "task_count"),
    "runs": _schema(*RUNS),
    "likelihood": _schema(
        *("key", "task", "normalization", "system", "ws", "treatment", "pretrain_seed", "chance"),
        *("layers", "flops_share", "heldout_bits_per_byte", "mlflow_run_id", "mlflow_experiment_id"),
        unit=pa.list_(pa.string()),
        **dict.fromkeys(("model", "untrained", "fewest_tokens", "fewest_bytes", "ngram"), _SCORES),
    ),
    "gaps": _schema(
        *_columns("gaps", "dry_run", "studies", "accuracy_estimate", "gap_estimate", "results"),
        injected_tokens=pa.float64(),
        missing_from_corpus=pa.float64(),
    ),
    "lineage": _schema(*column_descriptions("lineage")),
    "labels": _schema(*column_descriptions("labels")),
    "confusions": _schema(
        *("key", "rule"), label=pa.list_(pa.int32()), prediction=pa.list_(pa.int32()), items=pa.list_(pa.int64())
    ),
    "missing_tokens": _schema("key", "task", "ws", "treatment", "token_id", "token", "task_count", "task_documents"),
    "metrics": _schema(*column_descriptions("metrics")),
}
"""What each packed table holds. `correct` has single models and baselines, `token_counts` a row for all tokens
that the task uses and a row for the others, `near_duplicates` whether a test item stands in the pre-training set,
`likelihood` the score of every unit (`likelihood_units`). Those from `gaps` on no analysis reads: they are for people, by
sql/published.sql."""
LATER = frozenset({"likelihood", "gaps", "lineage", "labels", "confusions", "missing_tokens", "metrics"})
"""Tables that older reports do not have."""
LATER_COLUMNS = {
    "results": ("task_key", "device", "heldout_bits_per_byte"),
    "runs": ("config",),
    "likelihood": ("layers", "flops_share", "heldout_bits_per_byte"),
}
"""And columns, which are then null."""
MISSING_TOKENS = 50
"""Of a pair of pre-training set and task: the most frequent ones."""

ALONE = ("finetune", "soup", "compress", "baseline")
"""The stages whose predictions are of one system by itself."""
PACKING: dict[str, str] = {
    "results": "from results",
    "items": f"""from (
        select distinct task, item_id, label::integer as label
        from predictions where part = 'test' and kind in {ALONE}
    ) order by task, item_id""",  # noqa: S608 – ALONE are names of stages
    "correct": f"""from (
        select key, list(correct order by item_id) as correct
        from predictions where part = 'test' and kind in {ALONE} group by key
    ) order by key""",  # noqa: S608 – likewise
    "committee_instances": "from committee_instances order by key, size, instance",
    "near_duplicates": """from (
        select key, task, ws, treatment, list(hits > 0 order by item_id) as held
        from near_duplicates where part = 'test' group by all
    ) order by key""",
    "overlap": "from overlap",
    "token_counts": """from (
        select
            key, task, ws, treatment,
            sum(corpus_count)::bigint as corpus_count, sum(task_count)::bigint as task_count, task_count > 0 as used
        from token_counts group by key, task, ws, treatment, used
    ) order by key, used""",
    "runs": """from (
        select * replace (if(stage in ('latency', 'compress'), facts, null) as facts) from runs
    ) order by key""",
    "likelihood": f"from ({SCORES_BY_UNIT}) order by key",
    "gaps": "from gaps",
    "lineage": "from lineage",
    "labels": "from labels",
    "confusions": """from (
        select
            key, rule, list(label order by label, prediction) as label,
            list(prediction order by label, prediction) as prediction, list(items order by label, prediction) as items
        from confusions group by key, rule
    ) order by key, rule""",
    "missing_tokens": f"""from token_counts where corpus_count = 0 and task_count > 0
        qualify row_number() over (partition by key order by task_count desc, token_id) <= {MISSING_TOKENS}
        order by key, task_count desc, token_id""",
    "metrics": "from metrics where name not in ('train_loss', 'learning_rate')",
}
_UNPACKING = {
    "results": "select * from packed_results",
    "predictions": """select
            correct.key, results.kind, results.rule, results.task, 'test' as part, unnest(of_task.item_id) as item_id,
            unnest(of_task.label) as label, unnest(correct.correct) as correct
        from packed_correct as correct
        inner join packed_results as results on correct.key = results.key and results.rule is null
        inner join of_task on results.task = of_task.task""",
    "committee_instances": "select * from packed_committee_instances",
    "near_duplicates": """select
            duplicates.key, duplicates.task, duplicates.ws, duplicates.treatment, 'test' as part,
            unnest(of_task.item_id) as item_id, unnest(duplicates.held)::bigint as hits
        from packed_near_duplicates as duplicates
        inner join of_task on duplicates.task = of_task.task""",
    "overlap": "select * from packed_overlap",
    "token_counts": "select * from packed_token_counts",
    "runs": "select * from packed_runs",
    "likelihood": "select * exclude (unit, model, untrained, fewest_tokens, fewest_bytes, ngram) from packed_likelihood",
    "likelihood_units": """select
            key, unnest(unit) as unit, unnest(model) as model, unnest(untrained) as untrained,
            unnest(fewest_tokens) as fewest_tokens, unnest(fewest_bytes) as fewest_bytes, unnest(ngram) as ngram
        from packed_likelihood""",
}


def packed(connection: Connection) -> dict[str, pa.Table]:
    """The marts behind a connection, packed."""
    found = {}
    for name, schema in SCHEMAS.items():
        table = connection.sql(f"select {', '.join(schema.names)} {PACKING[name]}").to_arrow_table()
        found[name] = table.cast(schema)
    return found


def unpacked(tables: Tables) -> Connection:
    """The marts of packed tables in memory, as `tlm.report.evidence.Evidence` reads them. The caller closes it."""
    connection = in_memory()
    for name in SCHEMAS:
        connection.register(f"packed_{name}", tables[name])
    connection.execute(
        """create temp table of_task as
        select task, list(item_id order by item_id) as item_id, list(label order by item_id) as label
        from packed_items group by task"""
    )
    for name, sql in _UNPACKING.items():
        connection.execute(f"create table {name} as {sql}")
    for name in SCHEMAS:
        connection.unregister(f"packed_{name}")
    return connection


def save_packed(tables: Tables, folder: Path) -> None:
    """Write each table as `<name>.parquet` into a folder, which is made; the same rows make the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(
            table, folder / f"{name}.parquet", compression="zstd", compression_level=19, write_statistics=False
        )
