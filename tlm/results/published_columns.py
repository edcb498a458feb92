"""What stands in the published files: their README, from what the marts that they are packed from say of themselves."""

from __future__ import annotations

import pyarrow as pa

from tlm.artifacts.sql_models import column_descriptions, description
from tlm.report.packed import MISSING_TOKENS, SCHEMAS
from tlm.results.published import STUDY, STUDY_SCHEMA

README = "README.md"
"""Beside the folders of the studies."""
HEAD = """# Published results

Written by `tlm publish` with the results beside it; do not edit. Each study has a folder of Parquet files, which is
replaced whole. An artifact that several studies share has its rows in each of their folders.

`sql/published.sql` makes views of them that bear the names and the columns of the catalogue's marts and hold each artifact
once: from the root of the repository, with DuckDB and nothing else, the queries of `sql/queries` run on them (see
`sql/README.md`).
"""
OWN_TABLES = {
    STUDY: "one row: the study, and its report.",
    "items": "one row for each test item of each task.",
    "correct": "which test items each model and baseline gets right.",
    "near_duplicates": "which test items stand, 13 tokens in a row or whole, in a pre-training set.",
    "token_counts": "how often tokens occur in a pre-training set: those that the task uses (one row), and all others.",
    "missing_tokens": f"the {MISSING_TOKENS} most frequent tokens of a task that a pre-training set lacks.",
    "likelihood": "one row for each pre-trained model and benchmark: the score of each unit that its score is the mean of.",
    "confusions": "one row for each result: its confusion matrix, as lists of the pairs of labels that occur in it.",
    "metrics": "what was measured on held-out text and dev items during training.",
}
"""What a row is, where it is not a mart's."""
MARTS = {"items": "predictions", "missing_tokens": "token_counts"}
"""The marts that columns are described in, where it is not the one of the same name."""
OWN_COLUMNS = {
    (STUDY, "study"): "its fields, JSON",
    (STUDY, "report_key"): "the report's key",
    (STUDY, "created"): "when the report was made, UTC",
    (STUDY, "git_commit"): "commit of the code that made it",
    (STUDY, "mlflow_run_id"): "MLflow run that made it, null if runs were not tracked",
    (STUDY, "mlflow_experiment_id"): "MLflow experiment of that run",
    ("correct", "key"): "the artifact whose predictions they are",
    ("correct", "correct"): "for each test item, by item_id, whether it is right",
    ("near_duplicates", "held"): "for each test item, by item_id, whether the pre-training set holds it",
    ("token_counts", "corpus_count"): "occurrences in the pre-training set, of all tokens together",
    ("token_counts", "task_count"): "occurrences in the task, of all tokens together; 0 for those that it does not use",
    ("runs", "facts"): "the stage's small results, JSON (of latencies only)",
    ("likelihood", "unit"): "groups of items, or items, by name",
    **{
        ("likelihood", name): f"the score of each unit: {what}"
        for name, what in {
            "model": "the model's",
            "untrained": "the same model's before its first step",
            "fewest_tokens": "of choosing the option with the fewest tokens",
            "fewest_bytes": "of choosing the option with the fewest bytes",
            "ngram": "of a 5-gram model of the same pre-training set",
        }.items()
    },
}
"""(table, column) → its meaning, where it is not the mart's."""


def readme() -> str:
    """The text of the README.

    Raises:
        KeyError: if a column is described nowhere.
    """
    return "\n".join([HEAD, *(_section(name, schema) for name, schema in {STUDY: STUDY_SCHEMA, **SCHEMAS}.items())])


def _section(table: str, schema: pa.Schema) -> str:
    mart = MARTS.get(table, table)
    what = OWN_TABLES.get(table) or description(mart)
    of_mart = column_descriptions(mart) if mart in (*SCHEMAS, *MARTS.values()) and table != "correct" else {}
    rows = [
        f"| `{field.name}` | {field.type} | {(OWN_COLUMNS.get((table, field.name)) or of_mart[field.name])} |"
        for field in schema
    ]
    return "\n".join(
        [
            f"## {table}.parquet",
            "",
            what[0].upper() + what[1:],
            "",
            "| column | type | what it is |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    print(readme(), end="")  # noqa: T201 – into docs/published/README.md
