"""The report's tables of evaluations by likelihood, from the catalogue's marts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.sql_models import ready_query
from tlm.report.formatting import Cell, Row, Table, corpus_label, links_of, number, percent, word
from tlm.report.marts import rows

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection

HOW_TO_READ = (
    "The share of items of which the right option is the likeliest, in percent; k options that share the highest score "
    "count 1/k. Beside it stand what the same model scores before its first step, what choosing the option with the fewest "
    "tokens or the fewest bytes scores, and a 5-gram model of the same pre-training set. The standard error is over items, "
    "or over groups of items (of BLiMP its paradigms) where the score is their mean. Above the nulls means: above each of "
    "the four by two standard errors of the paired difference."
)
NULLS = {"untrained": "Untrained", "fewest_tokens": "Fewest tokens", "fewest_bytes": "Fewest bytes", "ngram": "5-gram"}


def likelihood_tables(connection: Connection) -> list[Table]:
    """Every score beside its nulls, and the phenomena of BLiMP; no table without an evaluation by likelihood."""
    found = rows(connection, ready_query("likelihood_against_nulls"))
    if not found:
        return []
    scores = Table(
        "Options by likelihood, %",
        (
            "Benchmark",
            "Compared",
            "Ws",
            "Architecture",
            "Seeds",
            "Score",
            "SE",
            "SD over seeds",
            "Chance",
            *NULLS.values(),
            "Above the nulls",
            "Items",
            "Not scored",
            "Cut",
            "Ties",
            "In the pre-training set",
            "Score without those",
        ),
        tuple(_scores(row) for row in found),
    )
    phenomena = _phenomena(connection)
    return [scores, phenomena] if phenomena.rows else [scores]


def _scores(row: Row) -> tuple[Cell, ...]:
    shown = links_of(row)
    return (
        word(row["task"]),
        word(row["normalization"]),
        word(corpus_label(row["ws"], row["treatment"])),
        word(row["system"]),
        number(row["seeds"]),
        number(row["score"], 2, shown),
        number(row["se"], 2, shown),
        number(row["seed_sd"], 2, shown),
        number(row["chance"], 2),
        *(number(row[name], 2, shown) for name in NULLS),
        word({True: "yes", False: "no", None: None}[row["above_every_null"]]),
        number(row["items"]),
        *(number(row[name], links=shown) for name in ("not_scored", "cut", "ties", "contained")),
        number(row["score_not_contained"], 2, shown),
    )


def _phenomena(connection: Connection) -> Table:
    """Means over seeds, at the largest Ws."""
    found = rows(
        connection,
        """select task, normalization, phenomenon, system, ws,
            avg(model) as model, avg(untrained) as untrained, avg(fewest_tokens) as fewest_tokens,
            avg(fewest_bytes) as fewest_bytes, avg(ngram) as ngram,
            list({'run_id': mlflow_run_id, 'experiment_id': mlflow_experiment_id} order by key) as results
        from (
            select part.*, score.* exclude (key, untrained, fewest_tokens, fewest_bytes, ngram, items)
            from likelihood_groups as part inner join likelihood as score on part.key = score.key
            where level = 'phenomenon' and treatment is null and ws = (select max(ws) from likelihood)
        ) group by task, normalization, phenomenon, system, ws order by task, normalization, phenomenon, system, ws""",
    )
    body = tuple(
        (
            word(row["task"]),
            word(row["normalization"]),
            word(row["phenomenon"]),
            word(row["system"]),
            word(corpus_label(row["ws"], None)),
            percent(row["model"], links_of(row)),
            *(percent(row[name], links_of(row)) for name in NULLS),
        )
        for row in found
    )
    columns = ("Benchmark", "Compared", "Phenomenon", "Architecture", "Ws", "Score", *NULLS.values())
    return Table("Options by likelihood, by phenomenon, %", columns, body)
