"""The report's tables and the terminal's summary, all from the same marts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tlm.artifacts import catalogue
from tlm.report.cells import Cell, Table, accuracy, corpus_label, difference, links_of, number, percent, word
from tlm.report.data import Gaps, corpora, deepest, rows, systems
from tlm.report.summary import summary, to_rich
from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from tlm.artifacts.catalogue import Connection
    from tlm.report.findings import Verdict

__all__ = ["summary", "to_rich"]

PAPER = {
    ("few_rel", "committee"): ("soft committee of five BERT-1 variants", 0.866),
    ("few_rel", "finetune"): ("single BERT-6", 0.866),
}
"""What is known of the paper's accuracies (arXiv 2507.14871, Table 8), by kind of source and of result."""


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """A line for each claim: what came out, the figure behind it, and the paper's."""
    body = tuple(
        (word(v.claim), word(v.outcome), Cell(v.figure, v.links, number=False), word(v.paper)) for v in verdicts
    )
    return Table("Verdicts", ("Claim or question", "Verdict", "Figure", "Paper"), body)


def results_table(gaps: Gaps, study: StudyConfig, task: str) -> Table:
    """Accuracy by Ws (rows) and system (columns)."""
    columns = systems(study)
    body = []
    for ws, treatment in corpora(study, task):
        cells = [word(corpus_label(ws, treatment))]
        for _, wanted in columns:
            where = {} if wanted["kind"] == "baseline" else {"ws": ws, "treatment": treatment}
            cells.append(accuracy(gaps.find(task=task, **wanted, **where)))
        body.append(tuple(cells))
    return Table(f"Test accuracy on {task}, %", ("Ws", *(heading for heading, _ in columns)), tuple(body))


def gap_table(gaps: Gaps, study: StudyConfig, task: str) -> Table:
    """Accuracy minus that of the same system from scratch."""
    columns = [(heading, wanted) for heading, wanted in systems(study) if wanted["kind"] != "baseline"]
    body = []
    for ws, treatment in corpora(study, task):
        if not ws:
            continue
        cells = [word(corpus_label(ws, treatment))]
        for _, wanted in columns:
            row = gaps.find(task=task, ws=ws, treatment=treatment, **wanted)
            cells.append(difference(row["gap"], row["gap_error"], links_of(row)) if row else number(None))
        body.append(tuple(cells))
    return Table(f"Gain over scratch on {task}, points", ("Ws", *(heading for heading, _ in columns)), tuple(body))


def paper_table(gaps: Gaps, study: StudyConfig) -> Table:
    """The largest Ws of this study beside what is known of the paper's accuracies."""
    body = []
    for task in study.tasks:
        for kind, system in [("finetune", deepest(study)), *(("committee", c.name) for c in study.committees)]:
            ws = max(study.corpus.sizes)
            wanted = {"rule": "soft"} if kind == "committee" else {}
            found = gaps.find(task=task.name, kind=kind, system=system, ws=ws, treatment=None, **wanted)
            theirs = PAPER.get((task.source.kind, kind))
            paper = Cell(f"{100 * theirs[1]:.1f} ({theirs[0]})") if theirs else number(None)
            body.append((word(task.name), word(system), word(corpus_label(ws, None)), accuracy(found), paper))
    return Table("Beside the paper: accuracy, %", ("Task", "System", "Ws", "This study", "Paper"), tuple(body))


def overlap_table(connection: Connection) -> Table:
    """Every overlap measure of every (pre-training set, task), all items of the task."""
    measures: list[tuple[str, str, Callable[..., Cell]]] = [
        ("task_types", "Task types", number),
        ("corpus_types", "Corpus types", number),
        ("common_types", "In common", number),
        ("missing_from_corpus", "Missing from corpus", number),
        ("missing_from_task", "Missing from task", number),
        ("type_overlap", "Type overlap, %", percent),
        ("occurrence_overlap", "Occurrence overlap, %", percent),
    ]
    fine = [("weighted_jaccard", "Weighted Jaccard"), ("js_divergence", "JS, bits"), ("kl_divergence", "KL, bits")]
    found = rows(
        connection,
        """select overlap.*, runs.mlflow_run_id, runs.mlflow_experiment_id from overlap
        inner join runs on overlap.key = runs.key where overlap.part = 'all'
        order by overlap.task, overlap.ws, overlap.treatment nulls first, overlap.key""",
    )
    body = tuple(
        (
            word(row["task"]),
            word(corpus_label(row["ws"], row["treatment"])),
            *(show(row[name], links=links_of(row)) for name, _, show in measures),
            *(number(row[name], 3, links_of(row)) for name, _ in fine),
        )
        for row in found
    )
    headings = (*(heading for _, heading, _ in measures), *(heading for _, heading in fine))
    return Table("Token overlap of pre-training sets and tasks", ("Task", "Ws", *headings), body)


def missing_table(connection: Connection, gaps: Gaps) -> Table:
    """Accuracy with and without treatment at the same Ws, and what the missing tokens cost."""
    found = rows(connection, catalogue.ready_query("missing_tokens_against_accuracy"))
    whole = {(r["task"], r["system"], r["ws"]): r for r in found if r["treatment"] is None}
    body = []
    for row in found:
        base = whole.get((row["task"], row["system"], row["ws"]))
        result = gaps.find(kind="finetune", **{name: row[name] for name in ("task", "system", "ws", "treatment")})
        shown = links_of(result) if result else ()
        cost = number(None)
        if row["treatment"] and base:
            error = (row["standard_error"] ** 2 + base["standard_error"] ** 2) ** 0.5
            cost = difference(row["accuracy"] - base["accuracy"], error, shown)
        elif base:
            cost = Cell("reference")
        body.append(
            (
                word(row["task"]),
                word(corpus_label(row["ws"], row["treatment"])),
                word(row["system"]),
                number(row["injected_tokens"] or 0, links=shown),
                number(row["missing_from_corpus"], links=shown),
                accuracy(result),
                cost,
            )
        )
    columns = ("Task", "Ws", "Architecture", "Removed", "Missing", "Accuracy, %", "Against none removed, points")
    return Table("Missing tokens at fixed Ws", columns, tuple(body))


def missing_tokens_table(connection: Connection) -> Table:
    """The most frequent tokens of each task that each pre-training set lacks."""
    lists: dict[tuple[str, int, str | None], list[str]] = {}
    for row in rows(connection, catalogue.ready_query("most_frequent_missing_tokens")):
        pair = (row["task"], row["ws"], row["treatment"])
        lists.setdefault(pair, []).append(f"{row['token']} ({row['task_count']:,})")
    body = tuple(
        (word(task), word(corpus_label(ws, treatment)), word("  ".join(tokens[:10])))
        for (task, ws, treatment), tokens in lists.items()
    )
    return Table("Most frequent missing tokens (occurrences in the task)", ("Task", "Ws", "Tokens"), body)


def pretraining_table(connection: Connection) -> Table:
    """Held-out loss and accuracy of every pre-trained model, and what it took."""
    found = rows(
        connection,
        """select *,
            (facts ->> 'heldout_loss')::double as loss, (facts ->> 'heldout_accuracy')::double as right,
            (facts ->> 'steps')::bigint as steps, (facts ->> 'tokens')::bigint as tokens,
            (facts ->> 'parameters')::bigint as parameters
        from runs where stage = 'pretrain' order by arch, ws, treatment nulls first, pretrain_seed, key""",
    )
    body = tuple(
        (
            word(row["arch"]),
            word(corpus_label(row["ws"], row["treatment"])),
            word(row["pretrain_seed"]),
            number(row["loss"], 3, links_of(row)),
            percent(row["right"], links_of(row)),
            *(number(row[name], links=links_of(row)) for name in ("steps", "tokens", "parameters", "seconds")),
        )
        for row in found
    )
    columns = ("Architecture", "Ws", "Seed", "Held-out loss, nats", "Masked accuracy, %", "Steps", "Tokens")
    return Table("Pre-training", (*columns, "Parameters", "Seconds"), body)


def committee_table(connection: Connection, gaps: Gaps, study: StudyConfig) -> Table:
    """Soft committees beside the deepest single model."""
    deep = deepest(study)
    found = [
        row
        for row in rows(connection, catalogue.ready_query("committee_against_single"))
        if row["rule"] == "soft" and row["single"] == deep
    ]
    runs = rows(
        connection,
        """select task, committee, ws, mlflow_run_id, mlflow_experiment_id,
            (facts ->> 'member_accuracy')::double as member_accuracy
        from runs where stage = 'committee' order by key""",
    )
    known = {(row["task"], row["committee"], row["ws"]): row for row in runs}
    body = []
    for row in found:
        run = known[row["task"], row["committee"], row["ws"]]
        shown = links_of(run)
        single = gaps.find(task=row["task"], kind="finetune", system=deep, ws=row["ws"], treatment=None)
        beside = links_of(single) if single else ()
        body.append(
            (
                word(row["task"]),
                word(corpus_label(row["ws"], None)),
                word(row["committee"]),
                number(row["members"], links=shown),
                number(row["committee_parameters"], links=shown),
                percent(run["member_accuracy"], shown),
                percent(row["committee_accuracy"], shown),
                percent(row["single_accuracy"], beside),
                number(row["single_parameters"], links=beside),
                difference(row["difference"], row["difference_error"], shown),
            )
        )
    columns = ("Task", "Ws", "Committee", "Members", "Parameters", "Mean member, %", "Soft committee, %")
    return Table(
        f"Committees beside {deep}",
        (*columns, f"{deep}, %", f"{deep} parameters", "Difference, points"),
        tuple(body),
    )
