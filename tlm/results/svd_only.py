"""What does language modelling add to word vectors from counts? Beside every gap stands the arm "SVD only".

A model of that arm begins with the PPMI-SVD vectors of the same pre-training set, which take seconds, and is fine-tuned at
once. What a pre-trained model has beyond it is what language modelling taught.
"""

from __future__ import annotations

from tlm.report.comparison import compare_measured, shown, verdict
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import Verdict
from tlm.report.formatting import NOT_AVAILABLE, Cell, Table, corpus_label, word
from tlm.report.study_systems import corpora, svd_only
from tlm.statistics.contrast import share_of_gap

Place = tuple[str, str]
"""A task and an architecture."""


def beyond_svd(evidence: Evidence) -> list[Verdict]:
    """A verdict for each task and architecture at the largest Ws, one family; none without the arm, or beside others."""
    study, ws = evidence.study, max(evidence.study.corpus.sizes)
    if not study.svd_arm or study.arms or not ws:
        return []
    places = [(task.name, arch.name) for task in study.tasks for arch in study.architectures]
    found = compare_measured({place: _pair(evidence, place, ws, None) for place in places})
    return [
        verdict(
            f"Language modelling on {ws:,} paragraphs adds to their word vectors (SVD only), {arch} on {task}",
            found.get((task, arch)),
            paper=False,
            links=evidence.links(task, arch, [ws]) + evidence.links(task, svd_only(arch), [ws]),
        )
        for task, arch in places
    ]


def svd_table(evidence: Evidence) -> list[Table]:
    """A row for each task, architecture and pre-training set; no table without the arm, or beside others."""
    if not evidence.study.svd_arm or evidence.study.arms:
        return []
    sets = [
        ((task.name, arch.name), ws, treatment)
        for task in evidence.study.tasks
        for arch in evidence.study.architectures
        for ws, treatment in corpora(evidence.study, task.name)
        if (ws in evidence.study.sizes_of(arch.name) if treatment is None else arch.name in evidence.treated) and ws
    ]
    added = compare_measured({case: _pair(evidence, *case) for case in sets})
    vectors = compare_measured({case: (_pair(evidence, *case)[1], evidence.correct(*case[0], 0)) for case in sets})
    rows = tuple(
        (
            *(word(name) for name in place),
            Cell(corpus_label(ws, treatment)),
            shown(
                evidence.accuracy(place[0], svd_only(place[1]), ws, treatment),
                evidence.links(place[0], svd_only(place[1]), [ws], treatment),
            ),
            shown(vectors.get((place, ws, treatment))),
            shown(added.get((place, ws, treatment))),
            _share(evidence, place, ws, treatment),
        )
        for place, ws, treatment in sets
    )
    return [
        Table(
            "What language modelling adds to word vectors of the same paragraphs (SVD only)",
            (
                *("Task", "Architecture", "Ws", "SVD only, %", "SVD only minus scratch, points"),
                *("Pre-trained minus SVD only, points", "Share of the gap that SVD only has, %"),
            ),
            rows,
            "SVD only: fine-tuned from the PPMI-SVD vectors of the pre-training set, without language modelling. p-values "
            "of each column are one family (Holm). Share: Fieller's interval; n/a where the gap is not resolved.",
        )
    ]


def _pair(evidence: Evidence, place: Place, ws: int, treatment: str | None) -> tuple[Correct | None, Correct | None]:
    """Pre-trained, and SVD only."""
    task, arch = place
    return evidence.correct(task, arch, ws, treatment), evidence.correct(task, svd_only(arch), ws, treatment)


def _share(evidence: Evidence, place: Place, ws: int, treatment: str | None) -> Cell:
    (pretrained, svd), scratch = _pair(evidence, place, ws, treatment), evidence.correct(*place, 0)
    if pretrained is None or svd is None or scratch is None:
        return Cell(NOT_AVAILABLE)
    share = share_of_gap(svd, pretrained, scratch)
    return Cell(NOT_AVAILABLE if share is None else f"{share.text()}")
