"""The report's tables, all from the catalogue's marts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from tlm.artifacts.sql_models import ready_query
from tlm.modeling.cost import claims, parameter_counts, pretraining_flops
from tlm.report.comparison import difference_text
from tlm.report.evidence import Correct, Evidence
from tlm.report.formatting import Cell, Link, Row, Table, corpus_label, links_of, number, percent, word
from tlm.report.marts import estimate, rows
from tlm.report.study_systems import corpora, deepest, in_arm, shapes, svd_only, systems
from tlm.statistics import difference

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection

PAPER = {
    ("few_rel", "committee"): ("soft committee of five BERT-1 variants", 0.866),
    ("few_rel", "finetune"): ("single BERT-6", 0.866),
}
"""What is known of the paper's accuracies (arXiv 2507.14871, Table 8), by kind of source and of result."""


def results_table(evidence: Evidence, task: str) -> Table:
    """Accuracy by Ws (rows) and system (columns), the strongest baseline first, where it is never off the screen."""
    strongest = {"kind": "baseline", "system": "tfidf"}
    columns = sorted(systems(evidence.study), key=lambda column: column[1] != strongest)
    body = []
    for ws, treatment in corpora(evidence.study, task):
        cells = [word(corpus_label(ws, treatment))]
        for _, wanted in columns:
            where = {} if wanted["kind"] == "baseline" else {"ws": ws, "treatment": treatment}
            cells.append(_accuracy(evidence.gaps.find(task=task, **wanted, **where)))
        body.append(tuple(cells))
    return Table(f"Test accuracy on {task}, %", ("Ws", *(heading for heading, _ in columns)), tuple(body))


def gap_table(evidence: Evidence, task: str) -> Table:
    """Accuracy minus that of the same system from scratch, and what pre-training adds to the word vectors of its set."""
    columns = [(heading, wanted) for heading, wanted in systems(evidence.study) if wanted["kind"] != "baseline"]
    study = evidence.study
    beside_svd = [arch.name for arch in study.architectures] if study.svd_arm and not study.arms else []
    body = []
    for ws, treatment in corpora(evidence.study, task):
        if not ws:
            continue
        found = [evidence.gaps.find(task=task, ws=ws, treatment=treatment, **wanted) for _, wanted in columns]
        added = [_over_svd(evidence, task, name, ws, treatment) for name in beside_svd]
        body.append((word(corpus_label(ws, treatment)), *(_gap(row) for row in found), *added))
    headings = (*(heading for heading, _ in columns), *(f"{name} over SVD only" for name in beside_svd))
    return Table(f"Gap over scratch on {task}, points", ("Ws", *headings), tuple(body))


def paper_table(evidence: Evidence) -> Table:
    """The largest Ws of this study beside what is known of the paper's accuracies."""
    study, body = evidence.study, []
    for task in study.tasks:
        for kind, system in [("finetune", deepest(study)), *(("committee", c.name) for c in study.committees)]:
            ws = max(study.corpus.sizes)
            wanted = {"rule": "soft"} if kind == "committee" else {}
            found = evidence.gaps.find(task=task.name, kind=kind, system=system, ws=ws, treatment=None, **wanted)
            theirs = PAPER.get((task.source.kind, kind))
            paper = Cell(f"{100 * theirs[1]:.1f} ({theirs[0]})") if theirs else number(None)
            body.append((word(task.name), word(system), word(corpus_label(ws, None)), _accuracy(found), paper))
    return Table("Beside the paper: accuracy, %", ("Task", "System", "Ws", "This study", "Paper"), tuple(body))


def parameters_table(evidence: Evidence) -> Table:
    """What each architecture's language model stores, and what a token of it costs. Empty if no tokenizer is recorded."""
    study = evidence.study
    vocabularies = _vocabularies(evidence)
    body = []
    for shape in shapes(study):
        if (vocab_size := shape.vocabulary(vocabularies)) is None:
            continue
        architecture, own = shape.architecture, shape.study
        counts = parameter_counts(architecture, vocab_size=vocab_size, max_position_embeddings=own.max_length)
        flops = pretraining_flops(architecture, own.pretrain, own.max_length, vocab_size) / own.max_length
        sizes = [number(each) for each in (counts.stored, counts.embeddings_and_head)]
        share = percent(counts.embeddings_and_head / counts.stored)
        rest = [number(counts.core), number(counts.used), number(flops, 2, scale=1e-6)]
        body.append((word(shape.name), *sizes, share, *rest))
    columns = (
        "Architecture",
        "Stored",
        "Embeddings and head",
        "Of all, %",
        "Core",
        "Used by a token",
        "MFLOPs a token",
    )
    note = (
        "Stored: what is tied, or shared by layers, counts once. Used by a token: what layers share counts for each of "
        "them, and of embeddings only the projection onto the vocabulary. FLOPs: of the forward pass in pre-training, in a "
        f"sequence of {study.max_length} tokens."
    )
    note += "".join(f" {shape.name}: {claim}" for shape in shapes(study) for claim in claims(shape.architecture))
    return Table("Parameters of the language models", columns, tuple(body), note)


def _vocabularies(evidence: Evidence) -> dict[tuple[str, str | None], int]:
    """(architecture, arm) → tokens of the vocabulary that its models read. Published results do not tell."""
    found = rows(evidence.connection, "select * from runs where stage in ('tokenizer', 'pretrain', 'finetune')")
    facts = {row["key"]: json.loads(row["facts"] or "{}") for row in found if row["stage"] == "tokenizer"}
    read = {(row["arch"], row.get("arm")): json.loads(row.get("inputs") or "{}").get("tokenizer") for row in found}
    keys = {model: tokenizer["key"] for model, tokenizer in read.items() if tokenizer}
    return {model: int(facts[key]["vocab_size"]) for model, key in keys.items() if "vocab_size" in facts.get(key, {})}


def texts_table(connection: Connection) -> Table:
    """How much of each source's text the tokenizer knows."""
    found = rows(
        connection,
        """select texts.*, runs.mlflow_run_id, runs.mlflow_experiment_id from texts inner join runs on texts.key = runs.key
        qualify row_number() over (partition by source_key, texts.tokenizer_key order by texts.key) = 1
        order by source, texts.tokenizer_key""",
    )
    body = []
    for row in found:
        counts = [number(row[name], links=links_of(row)) for name in ("texts", "invisible", "without_token", "words")]
        shares = [percent(row[f"unknown_{name}_share"], links_of(row)) for name in ("word", "letter")]
        most = row["unknown_most"] and json.loads(row["unknown_most"])
        examples = most and "  ".join(f"{unknown} ({times:,})" for unknown, times in most)
        body.append((word(row["source"]), *counts, *shares, word("none" if most == [] else examples)))
    columns = ("Source", "Texts", "Invisible", "Without token", "Words", "Unknown words, %", "Unknown letters, %")
    return Table("Text that the tokenizer knows", (*columns, "Most frequent unknown"), tuple(body))


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


def missing_table(evidence: Evidence) -> Table:
    """Accuracy with and without treatment at the same Ws, and what the missing tokens cost."""
    found = rows(evidence.connection, ready_query("accuracy_by_missing_tokens"))
    body = []
    for row in found:
        task, system, ws, treatment = (row[name] for name in ("task", "system", "ws", "treatment"))
        result = evidence.gaps.find(kind="finetune", task=task, system=system, ws=ws, treatment=treatment)
        shown = links_of(result) if result else ()
        cost = Cell("reference")
        if treatment:
            none_missing = evidence.correct(task, system, ws)
            cost = _difference(evidence.correct(task, system, ws, treatment), none_missing, shown)
        body.append(
            (
                word(task),
                word(corpus_label(ws, treatment)),
                word(system),
                number(row["injected_tokens"] or 0, links=shown),
                number(row["missing_from_corpus"], links=shown),
                _accuracy(result),
                cost,
            )
        )
    columns = ("Task", "Ws", "Architecture", "Removed", "Missing", "Accuracy, %", "Against none removed, points")
    return Table("Missing tokens at fixed Ws", columns, tuple(body))


def missing_tokens_table(connection: Connection) -> Table:
    """The most frequent tokens of each task that each pre-training set lacks."""
    lists: dict[tuple[str, int, str | None], list[str]] = {}
    for row in rows(connection, ready_query("missing_tokens_by_ws")):
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
            (facts ->> 'heldout_bits_per_byte')::double as bits,
            (facts ->> 'steps')::bigint as steps, (facts ->> 'tokens')::bigint as tokens,
            (facts ->> 'parameters')::bigint as parameters
        from runs where role = 'pretrains'
        order by arch, arm nulls first, budget, ws, treatment nulls first, pretrain_seed, key""",
    )
    body = tuple(
        (
            word(row["arch"] if row["arm"] is None else in_arm(row["arch"], row["arm"], row["budget"])),
            word(corpus_label(row["ws"], row["treatment"])),
            word(row["pretrain_seed"]),
            number(row["loss"], 3, links_of(row)),
            percent(row["right"], links_of(row)),
            number(row["bits"], 3, links_of(row)),
            *(number(row[name], links=links_of(row)) for name in ("steps", "tokens", "parameters", "seconds")),
        )
        for row in found
    )
    columns = ("Architecture", "Ws", "Seed", "Held-out loss, nats", "Held-out accuracy, %", "Held-out bits a byte")
    note = (
        "Loss and accuracy are over what is predicted: masked tokens, or every next token or byte. Bits a byte "
        "are those of models that predict everything, over the bytes of what the tokens stand for: they compare tokenizers."
    )
    return Table("Pre-training", (*columns, "Steps", "Tokens", "Parameters", "Seconds"), body, note)


def committee_table(evidence: Evidence) -> Table:
    """Soft committees beside the deepest single model."""
    deep = deepest(evidence.study)
    found = [
        row
        for row in rows(evidence.connection, ready_query("committee_against_single"))
        if row["rule"] == "soft" and row["single"] == deep
    ]
    runs = rows(
        evidence.connection,
        """select task, committee, ws, mlflow_run_id, mlflow_experiment_id,
            (facts ->> 'member_accuracy')::double as member_accuracy
        from runs where role = 'combines' order by key""",
    )
    known = {(row["task"], row["committee"], row["ws"]): row for row in runs}
    body = []
    for row in found:
        task, ws, committee = row["task"], row["ws"], row["committee"]
        shown = links_of(known[task, committee, ws])
        single = evidence.gaps.find(task=task, kind="finetune", system=deep, ws=ws, treatment=None)
        beside = links_of(single) if single else ()
        whole = evidence.committee(task, committee, ws, row["members"])
        body.append(
            (
                word(task),
                word(corpus_label(ws, None)),
                word(committee),
                number(row["members"], links=shown),
                number(row["committee_parameters"], links=shown),
                percent(known[task, committee, ws]["member_accuracy"], shown),
                percent(row["committee_accuracy"], shown),
                percent(row["single_accuracy"], beside),
                number(row["single_parameters"], links=beside),
                _difference(whole, evidence.correct(task, deep, ws), shown),
            )
        )
    columns = ("Task", "Ws", "Committee", "Members", "Parameters", "Mean member, %", "Soft committee, %")
    return Table(
        f"Committees beside {deep}",
        (*columns, f"{deep}, %", f"{deep} parameters", "Difference, points"),
        tuple(body),
    )


# --- cells ---


def _accuracy(row: Row | None) -> Cell:
    """The mean accuracy of a row of the mart `gaps`, in percent."""
    if row is None:
        return number(None)
    found = estimate(row, "accuracy")
    return percent(row["accuracy"], links_of(row)) if found is None else Cell(found.text(), links_of(row))


def _gap(row: Row | None) -> Cell:
    """The gap of a row of the mart `gaps`, in points."""
    found = estimate(row, "gap")
    return number(None) if row is None or found is None else Cell(difference_text(found), links_of(row))


def _over_svd(evidence: Evidence, task: str, arch: str, ws: int, treatment: str | None) -> Cell:
    """What pre-training adds to an architecture that has the word vectors of the same set, in points."""
    pretrained, svd = (evidence.correct(task, system, ws, treatment) for system in (arch, svd_only(arch)))
    return _difference(pretrained, svd, evidence.links(task, arch, [ws], treatment, kind="finetune"))


def _difference(a: Correct | None, b: Correct | None, links: tuple[Link, ...]) -> Cell:
    return number(None) if a is None or b is None else Cell(difference_text(difference(a, b)), links)
