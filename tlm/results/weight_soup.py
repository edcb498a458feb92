"""Does the mean of several fine-tunings' weights do what their soft committee does, at the latency of one model?

Shapes: P pre-training seeds, F fine-tunings of each, N test items. A soup, the committee of the same members and these
themselves are matched by the pre-training that they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlm.report.comparison import ALPHA, Comparison, compare_measured, shown, verdict
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, ONE_SAMPLE, Findings, Verdict
from tlm.report.formatting import Table, word
from tlm.report.study_systems import in_arm
from tlm.results.committees import MARGIN, noninferior
from tlm.statistics import difference, mean_accuracy
from tlm.study.soups import SOUP

Place = tuple[str, str]
"""Task and architecture."""


@dataclass(frozen=True)
class Measured:
    """Which test items each got right, in the same order of pre-training seeds."""

    soup: Correct
    """(P, N)"""
    committee: Correct
    """(P, N)"""
    members: Correct
    """(P, F, N)"""


def analyse(evidence: Evidence) -> Findings:
    """Soups against their mean member, and against the soft committee of the same members."""
    study, ws = evidence.study, max(evidence.study.corpus.sizes)
    places = [(task.name, arch) for task in study.tasks for arch in study.soups]
    if not places:
        claim = "A weight average of fine-tunings is better than its mean member"
        return Findings([Verdict(claim, NOT_MEASURED, "the study has no soup")])
    found = {place: _measured(evidence, place, ws) for place in places}
    over_members = compare_measured(
        {place: (each.soup, each.members) if each else (None, None) for place, each in found.items()}, matched=True
    )
    return Findings(
        verdicts=[
            *(_better_than_members(evidence, place, over_members.get(place), ws) for place in places),
            *(_as_good_as_committee(evidence, place, found[place], ws, len(places)) for place in places),
        ],
        tables=[_table(evidence, found, over_members, ws)],
        notes=[
            f"A soup is the mean of the weights of {len(study.finetune_seeds)} fine-tunings of one pre-trained model. It, "
            "the soft committee of the same members and these belong together: intervals are over what they differ by.",
            f"As good means: worse by less than {100 * MARGIN:g} point, with the whole interval, which holds for all tasks "
            "together at 95 % (Bonferroni).",
            ONE_SAMPLE,
        ],
    )


def _measured(evidence: Evidence, place: Place, ws: int) -> Measured | None:
    """None unless all were measured, each with every pre-training seed."""
    study, (task, arch) = evidence.study, place
    own = next((each for each in study.committees if set(each.members) == {arch}), None)
    soup = evidence.correct(task, in_arm(arch, SOUP, None), ws, kind="soup")
    members = evidence.correct(task, arch, ws)
    tuned, pretrained = len(study.finetune_seeds), len(study.pretrain_seeds)
    committee = evidence.committee(task, own.name, ws, tuned) if own else None
    if soup is None or members is None or committee is None:
        return None
    items = soup.shape[-1]
    if soup.size != pretrained * items or members.size != pretrained * tuned * items or committee.size != soup.size:
        return None
    ascending = np.argsort(study.pretrain_seeds)  # the order of what is looked up by seed
    shape = (pretrained, tuned, items)
    return Measured(soup, committee.reshape(pretrained, items)[ascending], members.reshape(shape))


def _better_than_members(evidence: Evidence, place: Place, found: Comparison | None, ws: int) -> Verdict:
    task, arch = place
    links = evidence.links(task, in_arm(arch, SOUP, None), [ws])
    claim = f"A weight average of {len(evidence.study.finetune_seeds)} {arch} is better than its mean member on {task}"
    return verdict(claim, found, paper=False, links=links)


def _as_good_as_committee(evidence: Evidence, place: Place, found: Measured | None, ws: int, questions: int) -> Verdict:
    task, arch = place
    claim = (
        f"A weight average of {len(evidence.study.finetune_seeds)} {arch} is as good as their soft committee on {task} "
        f"(worse by less than {100 * MARGIN:g} point)"
    )
    if found is None:
        return Verdict(claim, NOT_MEASURED, NOT_KNOWN)
    judged = difference(found.soup, found.committee, confidence=1 - ALPHA / questions, matched=True)
    shown_one = difference(found.soup, found.committee, matched=True)
    links = evidence.links(task, in_arm(arch, SOUP, None), [ws])
    outcome = noninferior(judged, paper=False)
    return Verdict(claim, outcome, shown_one.text(signed=True), links=links, estimate=shown_one)


def _table(
    evidence: Evidence, found: dict[Place, Measured | None], over_members: dict[Place, Comparison], ws: int
) -> Table:
    body = []
    for (task, arch), each in found.items():
        systems = (each.members, each.soup, each.committee) if each else (None,) * 3
        links = evidence.links(task, in_arm(arch, SOUP, None), [ws])
        accuracies = [None if system is None else mean_accuracy(system) for system in systems]
        cells = [shown(accuracy, links if place == 1 else ()) for place, accuracy in enumerate(accuracies)]
        body.append((word(task), word(arch), *cells, shown(over_members.get((task, arch)))))
    return Table(
        f"Weight averages and soft committees of the same members, Ws = {ws:,}",
        ("Task", "Members", "Mean member, %", "Soup, %", "Soft committee, %", "Soup minus mean member, points"),
        tuple(body),
        "p-values are one family (Holm).",
    )
