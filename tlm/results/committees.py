"""Can a soft committee of shallow models replace a deep one? (paper: Table 8)

A committee here is one with members other than the deepest architecture; a deep committee has only that one.
"""

from __future__ import annotations

from collections.abc import Sequence

from tlm.report.comparison import ALPHA, compare_measured, point, shown, verdict
from tlm.report.drawing import Plot, lines
from tlm.report.evidence import Correct, Evidence
from tlm.report.findings import NOT_KNOWN, NOT_MEASURED, ONE_SAMPLE, UNDECIDED, Findings, Outcome, Verdict
from tlm.report.formatting import Cell, Link, Table, corpus_label, number, word
from tlm.report.study_systems import deepest
from tlm.results.costs import cost_table
from tlm.statistics import Estimate, difference, mean_accuracy
from tlm.study.config import CommitteeConfig, TaskConfig

MARGIN = 0.01
"""How much worse a committee may be and still replace the deep model: one point. That two accuracies are equal cannot be
shown, only that they differ by little, and a point is no finer than a few thousand test items can resolve."""
TABLE_8 = "0.866 for both (Table 8)"


def analyse(evidence: Evidence) -> Findings:
    """The paper's claim on FewRel; the same question on the other tasks."""
    return replacement(evidence, paper=True)


def replacement(evidence: Evidence, *, paper: bool) -> Findings:
    """Committees against the single deepest model, against committees of it, and against their own mean member.

    Args:
        paper: whether the study is the paper's: its claim on FewRel is then "reproduced" or not.
    """
    study = evidence.study
    deep = deepest(study)
    shallow = [committee for committee in study.committees if set(committee.members) != {deep}]
    rival = next((committee for committee in study.committees if set(committee.members) == {deep}), None)
    cases = [(task, committee) for task in study.tasks for committee in shallow]
    ws = max(study.corpus.sizes)
    if not cases:
        missing = Verdict(
            f"A soft committee of shallow models can replace {deep}",
            NOT_MEASURED,
            NOT_KNOWN,
            TABLE_8 if paper else NOT_KNOWN,
        )
        return Findings([missing])
    return Findings(
        verdicts=[
            *_replaces(evidence, cases, ws, deep, paper),
            *_premises(evidence, cases, ws, deep),
            *_advantages(evidence, cases, ws),
            *(_rivals(evidence, cases, ws, rival) if rival else ()),
        ],
        tables=[
            _accuracy_table(evidence, shallow, rival, deep),
            cost_table(evidence, _systems(evidence, shallow, rival, deep, ws)),
        ],
        plots=[_plot(evidence, task.name, ws, deep) for task in study.tasks],
        notes=[
            ONE_SAMPLE,
            "Committees of one size share no member, and are treated as seeds are. Where each has its members from one "
            "pre-training seed, committees of the same pre-training seed count as one; where their members come from "
            "several, as can be with sizes that do not divide the members of a pre-training seed, two committees may share "
            "one and their interval is too short.",
            "A committee and its members, or the deep model, are compared as if they were independent; a committee and its "
            "own members are not, which makes the interval of their difference longer than need be.",
            f"To replace means to be worse by less than {100 * MARGIN:g} point, with the whole interval. Tasks that the "
            "paper makes no claim of are judged by wider intervals than those shown, which hold for all of them together "
            "at 95 % (Bonferroni).",
        ],
    )  # fmt: skip


# --- verdicts ---


def _replaces(
    evidence: Evidence, cases: Sequence[tuple[TaskConfig, CommitteeConfig]], ws: int, deep: str, paper: bool
) -> list[Verdict]:
    """Non-inferiority: the paper's claim by its 95 % interval, the other tasks by wider ones that hold together."""
    asked = [(task, committee, paper and task.source.kind == "few_rel") for task, committee in cases]
    others = max(1, sum(not claimed for *_, claimed in asked))
    verdicts = []
    for task, committee, claimed in asked:
        size = _whole(evidence, task.name, committee, ws)
        claim = (
            f"A soft committee of {size} ({committee.name}) replaces one {deep} on {task.name}, Ws = {ws:,} "
            f"(worse by less than {100 * MARGIN:g} point)"
        )
        known = TABLE_8 if claimed else NOT_KNOWN
        own, single = evidence.committee(task.name, committee.name, ws, size), evidence.correct(task.name, deep, ws)
        if own is None or single is None:
            verdicts.append(Verdict(claim, NOT_MEASURED, NOT_KNOWN, known))
            continue
        judged = difference(own, single, confidence=1 - ALPHA / (1 if claimed else others))
        found = difference(own, single)
        figure = f"{mean_accuracy(own).text()} against {mean_accuracy(single).text()}: {found.text(signed=True)}"
        links = _links(evidence, task.name, ws, committee.name) + evidence.links(task.name, deep, [ws], kind="finetune")
        verdicts.append(Verdict(claim, noninferior(judged, paper=claimed), figure, known, links, found))
    return verdicts


def noninferior(found: Estimate, *, paper: bool, margin: float = MARGIN) -> Outcome:
    """Whether a difference is above −margin: yes, no, or undecided where its interval holds it or has one seed."""
    if found.seeds == 1 or found.low <= -margin <= found.high:
        return UNDECIDED
    if found.low > -margin:
        return "reproduced" if paper else "yes"
    return "not reproduced" if paper else "no"


def _premises(
    evidence: Evidence, cases: Sequence[tuple[TaskConfig, CommitteeConfig]], ws: int, deep: str
) -> list[Verdict]:
    """Where the deep model is no better than a shallow one, a committee that replaces it makes up for nothing."""
    family = {
        (task.name, committee.name): (
            evidence.correct(task.name, deep, ws),
            evidence.committee(task.name, committee.name, ws, 1),
        )
        for task, committee in cases
    }
    found = compare_measured(family)
    return [
        verdict(
            f"One {deep} is better than the mean member of {committee} on {task}: there is something to make up for",
            found.get((task, committee)),
            paper=False,
            links=evidence.links(task, deep, [ws], kind="finetune") + _links(evidence, task, ws, committee),
        )
        for task, committee in family
    ]


def _advantages(evidence: Evidence, cases: Sequence[tuple[TaskConfig, CommitteeConfig]], ws: int) -> list[Verdict]:
    family = {}
    for task, committee in cases:
        size = _whole(evidence, task.name, committee, ws)
        whole, alone = (evidence.committee(task.name, committee.name, ws, n) for n in (size, 1))
        family[task.name, committee.name, size] = (whole, alone)
    found = compare_measured(family)
    return [
        verdict(
            f"A committee of {size} ({committee}) is better than its mean member on {task}",
            found.get((task, committee, size)),
            paper=False,
            links=_links(evidence, task, ws, committee),
        )
        for task, committee, size in family
    ]


def _whole(evidence: Evidence, task: str, committee: CommitteeConfig, ws: int) -> int:
    """The size that is asked about: a member of each architecture, or all there are where they are of one."""
    own = len(committee.members)
    return own if own > 1 else max(evidence.committee_sizes(task, committee.name, ws), default=own)


def _rivals(
    evidence: Evidence, cases: Sequence[tuple[TaskConfig, CommitteeConfig]], ws: int, rival: CommitteeConfig
) -> list[Verdict]:
    """Committees of equal size: of the sizes that both have, the one with most committees, and the larger of equals."""
    family = {}
    for task, committee in cases:
        common = set(evidence.committee_sizes(task.name, committee.name, ws))
        common &= set(evidence.committee_sizes(task.name, rival.name, ws)) - {1}
        pairs = {size: _pair(evidence, committee, rival, task.name, ws, size) for size in common}
        counted = {size: min(_units(each) for each in pair if each is not None) for size, pair in pairs.items()}
        best = max(counted, key=lambda size: (counted[size], size), default=0)
        family[task.name, committee.name, best] = pairs.get(best, (None, None))
    found = compare_measured(family)
    return [
        verdict(
            f"On {task}, a committee of {size or 'as many'} {committee} beats one of as many {rival.name}",
            found.get((task, committee, size)),
            paper=False,
            links=_links(evidence, task, ws, committee, rival.name),
        )
        for task, committee, size in family
    ]


def _pair(
    evidence: Evidence, own: CommitteeConfig, rival: CommitteeConfig, task: str, ws: int, size: int
) -> tuple[Correct | None, Correct | None]:
    a, b = (evidence.committee(task, committee.name, ws, size) for committee in (own, rival))
    return a, b


def _links(evidence: Evidence, task: str, ws: int, *committees: str) -> tuple[Link, ...]:
    """The runs of committees alone: an architecture may have the same name."""
    return tuple(link for name in committees for link in evidence.links(task, name, [ws], kind="committee"))


def _units(correct: Correct) -> int:
    """How many independent repetitions there are, as `tlm.statistics` counts them."""
    return correct.shape[1] if correct.ndim > 2 and len(correct) == 1 else len(correct)


# --- table and plot ---


def _accuracy_table(
    evidence: Evidence, shallow: Sequence[CommitteeConfig], rival: CommitteeConfig | None, deep: str
) -> Table:
    """Accuracy at every Ws and at enough sizes to see the curve: each up to one member of each kind, then doublings."""
    study = evidence.study
    measured = {}
    for task in study.tasks:
        for committee in (*shallow, *([rival] if rival else ())):
            for ws in study.corpus.sizes:
                for size in _sizes_shown(
                    evidence.committee_sizes(task.name, committee.name, ws), len(committee.members)
                ):
                    if committee is not rival or size > 1:  # of one deep model: it would be set beside itself
                        own = evidence.committee(task.name, committee.name, ws, size)
                        measured[task.name, committee.name, ws, size] = own
    against = compare_measured(
        {case: (own, evidence.correct(case[0], deep, case[2])) for case, own in measured.items()}
    )
    body = []
    for (task_name, committee_name, ws, size), correct in measured.items():
        assert correct is not None
        instances = len(correct.reshape(-1, correct.shape[-1]))
        case = (task_name, committee_name, ws, size)
        links = _links(evidence, task_name, ws, committee_name)
        accuracy = shown(mean_accuracy(correct), links)
        about = (word(task_name), word(committee_name), Cell(corpus_label(ws, None)), number(size), number(instances))
        body.append((*about, accuracy, shown(against.get(case))))
    singles = [(task.name, ws) for task in study.tasks for ws in study.sizes_of(deep)]
    for task_name, ws in singles:
        accuracy = shown(evidence.accuracy(task_name, deep, ws), evidence.links(task_name, deep, [ws], kind="finetune"))
        about = (word(task_name), word(f"{deep}, single"), Cell(corpus_label(ws, None)), number(1), number(None))
        body.append((*about, accuracy, number(None)))
    return Table(
        "Accuracy by committee size",
        ("Task", "Committee", "Ws", "Size", "Committees", "Accuracy, %", f"Difference from one {deep}, points"),
        tuple(sorted(body, key=lambda row: row[0].text)),
        "Mean over the disjoint soft committees of that size. p-values of the table are one family (Holm); a single "
        "committee has an interval over items alone, and is never resolved.",
    )


def _sizes_shown(sizes: Sequence[int], of_each: int) -> list[int]:
    doubled = [of_each * 2**n for n in range(1, 12)]
    return [size for size in sizes if size <= of_each or size in doubled or size == max(sizes)]


def _systems(
    evidence: Evidence, shallow: Sequence[CommitteeConfig], rival: CommitteeConfig | None, deep: str, ws: int
) -> list[tuple[str, Sequence[str]]]:
    """What to call each, and its members' architectures: of a committee of one architecture as often as it has it."""
    task = evidence.study.tasks[0].name
    whole = {each.name: _whole(evidence, task, each, ws) for each in shallow}
    members = dict.fromkeys(member for committee in shallow for member in committee.members)
    return [
        (f"{deep}, single", (deep,)),
        *((f"{member}, single", (member,)) for member in members if member != deep),
        *((each.name + ", soft", each.members * (whole[each.name] // len(each.members))) for each in shallow),
        *((f"{rival.name}, soft", (deep,) * size) for size in sorted({*whole.values()} - {1}) if rival),
    ]


def _plot(evidence: Evidence, task: str, ws: int, deep: str) -> Plot:
    series = []
    for committee in evidence.study.committees:
        sizes = evidence.committee_sizes(task, committee.name, ws)
        measured = {size: evidence.committee(task, committee.name, ws, size) for size in sizes}
        points = [point(size, mean_accuracy(correct)) for size, correct in measured.items() if correct is not None]
        series.append((committee.name, points))
    single = evidence.accuracy(task, deep, ws)
    levels = [(f"{deep}, single", 100 * single.value)] if single else []
    name, title = f"{evidence.study.name}-{task}", f"{task}, Ws = {ws:,}: soft committees against {deep}"
    return lines(name, title, "Members", "Test accuracy, %", series, levels=levels)
