"""What does it cost a fine-tuned model to be stored in int8, or to lose half of its weights, neurons or heads?

A compressed model and the one it was made of are set beside each other seed by seed and item by item: what they have in
common cancels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlm.report.comparison import ALPHA, compare_measured, shown
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, ONE_SAMPLE, Findings, Verdict
from tlm.report.formatting import Link, Table, number, percent, word
from tlm.report.marts import rows
from tlm.report.study_systems import in_arm
from tlm.results.committees import noninferior
from tlm.results.costs import latencies
from tlm.statistics import difference, mean_accuracy
from tlm.study.compression import Compression

MARGIN = 0.005
"""How much a compressed model may lose: half a point."""
UNCOMPRESSED = "none"


@dataclass(frozen=True)
class Place:
    """A compression, a task and an architecture."""

    title: str
    task: str
    arch: str

    @property
    def system(self) -> str:
        """What the marts call the compressed model."""
        return in_arm(self.arch, self.title, None)


def analyse(evidence: Evidence) -> Findings:
    """Every compression of the study: whether it loses less than half a point, what it stores, and how soon it answers."""
    study, ws = evidence.study, max(evidence.study.corpus.sizes)
    asked = [each for each in study.evaluations if isinstance(each, Compression)]
    if not asked:
        claim = "A model in int8 loses less than half a point"
        return Findings([Verdict(claim, NOT_MEASURED, "the study compresses nothing")])
    places = [
        Place(each.title, task.name, arch.name)
        for each in asked
        for task in study.tasks
        for arch in study.architectures
    ]
    pairs = {place: _pair(evidence, place, ws) for place in places}
    return Findings(
        verdicts=[_verdict(evidence, place, pairs[place], ws, len(places) // len(asked)) for place in places],
        tables=[_accuracies(evidence, pairs, ws), _costs(evidence, asked, ws)],
        notes=[
            "Nothing is trained again. A fine-tuned model is compressed, saved, read again from its file, and then "
            "predicts: what is stored is what is measured.",
            f"Less than half a point means: with the whole interval of the difference above −{100 * MARGIN:g} point. It "
            "holds for all tasks of one compression together at 95 % (Bonferroni); those shown are of each alone.",
            ONE_SAMPLE,
        ],
    )


def _pair(evidence: Evidence, place: Place, ws: int) -> tuple[Correct, Correct] | None:
    """Which items the compressed models and the others got right, with the same seeds; None unless both were measured."""
    compressed = evidence.correct(place.task, place.system, ws, kind="compress")
    own = evidence.correct(place.task, place.arch, ws)
    if compressed is None or own is None or compressed.shape != own.shape:
        return None
    return compressed, own


def _links(evidence: Evidence, place: Place, ws: int) -> tuple[Link, ...]:
    return evidence.links(place.task, place.system, [ws], kind="compress")


def _verdict(
    evidence: Evidence, place: Place, pair: tuple[Correct, Correct] | None, ws: int, questions: int
) -> Verdict:
    claim = f"{place.arch} compressed by {place.title} loses less than half a point on {place.task}"
    if pair is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN)
    judged = difference(*pair, confidence=1 - ALPHA / questions, matched=True)
    found = difference(*pair, matched=True)
    outcome = noninferior(judged, paper=False, margin=MARGIN)
    return Verdict(claim, outcome, found.text(signed=True), links=_links(evidence, place, ws), estimate=found)


# --- tables ---


def _accuracies(evidence: Evidence, pairs: dict[Place, tuple[Correct, Correct] | None], ws: int) -> Table:
    lost = compare_measured({place: pair or (None, None) for place, pair in pairs.items()}, matched=True)
    body = []
    for place, pair in pairs.items():
        compressed, own = (mean_accuracy(each) for each in pair) if pair else (None, None)
        about = (word(place.title), word(place.task), word(place.arch))
        links = _links(evidence, place, ws)
        body.append((*about, shown(own), shown(compressed, links), shown(lost.get(place))))
    return Table(
        f"Compressed models and what they were made of, Ws = {ws:,}",
        ("Compression", "Task", "Model", "Before, %", "Compressed, %", "Compressed minus before, points"),
        tuple(body),
        "p-values are one family (Holm).",
    )


def _costs(evidence: Evidence, asked: list[Compression], ws: int) -> Table:
    """Of the first task: classifiers of other tasks differ by a few rows."""
    task, facts, measured = evidence.study.tasks[0].name, _facts(evidence), latencies(evidence)
    sizes = sorted({name for each in measured.values() for name in each if name.startswith("p50_ms_")}, key=len)
    body = []
    for arch in evidence.study.architectures:
        places = [Place(each.title, task, arch.name) for each in asked]
        stored = {place.title: _mean(evidence, facts, place, ws, "stored_bytes") for place in places}
        whole = _mean(evidence, facts, places[0], ws, "stored_bytes_before")
        for title, bytes_ in {UNCOMPRESSED: whole, **stored}.items():
            system = arch.name if title == UNCOMPRESSED else in_arm(arch.name, title, None)
            times = [measured.get((task, system), {}).get(size) for size in sizes]
            share = bytes_ / whole if bytes_ and whole else None
            body.append(
                (
                    *(word(arch.name), word(title), number(bytes_, 1, scale=1e-3), percent(share)),
                    *(number(time, 2) for time in times),
                )
            )
    return Table(
        f"What compressed models of {task} store, and how soon they answer",
        (
            *("Model", "Compression", "Stored, kB", "Of uncompressed, %"),
            *(f"Time to answer {size.rpartition('_')[2]}, ms" for size in sizes),
        ),
        tuple(body),
        "Stored is the size of model.safetensors, its header included. int8 has a byte for each weight and a scale for "
        "each row, embeddings included; a matrix that has lost single weights has a bit for each, and those that are left. "
        "Both are read into float32: to answer takes as long as before. Times are medians of one model each, beside which "
        "other work of the study may have run.",
    )


def _facts(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """By key, what was recorded with each compressed model."""
    found = rows(evidence.connection, "select key, facts from runs where stage = 'compress' and facts is not null")
    return {row["key"]: json.loads(row["facts"]) for row in found}


def _mean(evidence: Evidence, facts: dict[str, dict[str, Any]], place: Place, ws: int, name: str) -> float | None:
    """Over seeds."""
    keys = [run["key"] for run in evidence.runs(kind="compress", task=place.task, system=place.system, ws=ws)]
    values = [facts[key][name] for key in keys if key in facts]
    return float(np.mean(values)) if values else None
