"""The first page of docs/results.md, for a reader who was not there: what is established, what is refuted, what is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tlm.report.findings import Verdict
from tlm.report.formatting import escape_markdown
from tlm.results.answers import Answered

TERMS = (
    "A model is *pre-trained* on a sample of Wikipedia, the *pre-training set*; **Ws** is its number of paragraphs. Then "
    "it is *fine-tuned* on a task, texts that belong to one of several labels. The *gap* is its accuracy minus that of the "
    "same model fine-tuned *from scratch*, without pre-training. A *committee* averages what several models answer."
)
ANSWERS = {"Established": ("reproduced", "yes"), "Refuted": ("not reproduced", "no")}
OPEN = "Open"


def summary(scale: str | None, answered: Sequence[Answered]) -> Iterator[str]:
    """The paragraphs of one scale: its claims under the answer that they got, each with the figure that shows it."""
    claims = [(each, verdict) for each in answered for verdict in each.findings.verdicts]
    yield f"### In short: {f'scale {scale}' if scale else 'studies without a scale'}"
    for answer in (*ANSWERS, OPEN):
        fell = [(each, verdict) for each, verdict in claims if answer_of(verdict) == answer]
        if fell:
            yield f"**{answer}: {len(fell)} of {len(claims)}**"
            yield "\n".join(_bullet(each, verdict) for each, verdict in fell)


def answer_of(verdict: Verdict) -> str:
    """The heading under which a verdict stands."""
    return next((answer for answer, outcomes in ANSWERS.items() if verdict.outcome in outcomes), OPEN)


def _bullet(each: Answered, verdict: Verdict) -> str:
    reason = f" ({verdict.outcome})" if answer_of(verdict) == OPEN else ""
    said = f"{escape_markdown(verdict.claim)}{reason}: {escape_markdown(verdict.figure)}"
    return f"- [{each.study.name}](#{each.anchor}) — {said}"
