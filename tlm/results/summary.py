"""The first page of docs/results.md, for a reader who was not there: what is established, what is refuted, what is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tlm.report.findings import NOT_MEASURED, Verdict, tally
from tlm.report.formatting import escape_markdown
from tlm.report.matrix import Answer, by_claim, matrix_of, tally_of
from tlm.results import ANALYSES
from tlm.results.answers import Answered

TERMS = (
    "A model is *pre-trained* on a sample of Wikipedia, the *pre-training set*; **Ws** is its number of paragraphs. Then "
    "it is *fine-tuned* on a task, texts that belong to one of several labels. The *gap* is its accuracy minus that of the "
    "same model fine-tuned *from scratch*, without pre-training. A *committee* averages what several models answer."
)
HEADINGS: dict[Answer, str] = {"established": "Established", "refuted": "Refuted", "open": "Open"}


def summary(scale: str | None, answered: Sequence[Answered]) -> Iterator[str]:
    """The paragraphs of one scale: how the verdicts of each study fell; then each claim under the answer that it got."""
    yield f"### Scale: {scale or 'none'}"
    yield tally([verdict for each in answered for verdict in each.findings.verdicts])
    yield "\n".join(_table(answered))
    for answer, heading in HEADINGS.items():
        fell = [line for each in answered for line in _bullets(each, answer)]
        if fell:
            yield f"**{heading}**"
            yield "\n".join(fell)


def _table(answered: Sequence[Answered]) -> Iterator[str]:
    """A line for each study: its question, and how many verdicts fell how."""
    yield f"| Study | Question | {' | '.join(HEADINGS.values())} |"
    yield "| :--- | :--- | ---: | ---: | ---: |"
    for each in answered:
        counts = tally_of(each.findings.verdicts)
        question = escape_markdown(ANALYSES[str(each.study.analysis)].question)
        yield f"| [{each.study.name}](#{each.anchor}) | {question} | {' | '.join(str(counts[a]) for a in HEADINGS)} |"


def _bullets(each: Answered, answer: Answer) -> Iterator[str]:
    """A line for each claim that got this answer, with what was measured on each task where it did."""
    for claim, fell in by_claim(matrix_of(each.findings.verdicts, each.study), answer):
        said = "; ".join(f"{place}: {_figure(verdict)}" for place, verdict in fell)
        yield f"- [{each.study.name}](#{each.anchor}) — {escape_markdown(claim)} — {escape_markdown(said)}"


def _figure(verdict: Verdict) -> str:
    return f"{NOT_MEASURED}, {verdict.figure}" if verdict.outcome == NOT_MEASURED else verdict.figure
