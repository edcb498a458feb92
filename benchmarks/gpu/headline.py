"""The paper's results: pre-train on the largest Ws, fine-tune on every task, and from scratch; committees; the curve.

Artifacts are those of the study in the bundle, under its keys, with one exception: if the time does not allow for all
epochs of the first pre-training, fewer are planned, and that is another step.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.gpu.finetuning import finetune_all
from benchmarks.gpu.pretraining import pretrained
from benchmarks.gpu.session import Session, ws_of
from tlm.artifacts.step import Step
from tlm.training.captured import Engine
from tlm.training.replay import OutOfTime


def headline(session: Session, *, reserve: float) -> None:
    """Pre-train, then fine-tune as often as there is time for; `reserve` seconds of it are kept for fine-tuning."""
    (step, *_) = session.encoders()
    made, engine = pretrained(session, step, session.left - reserve, place="headline", shorten=True)
    finetune_all(session, step, made, engine)


def committee(session: Session, *, reserve: float) -> None:
    """Every architecture of the largest Ws, a seed after another; models from scratch when all of these are there."""
    for step, pretraining, engine in _every(session, _of_largest(session, True), reserve, scratch=False):
        finetune_all(session, step, pretraining, engine)


def curve(session: Session, *, reserve: float) -> None:
    """The same for every smaller Ws of the bundle, the largest first, each with all its epochs or left for another call.

    Models from scratch are those of `headline`; those that it had no time for are trained here.
    """
    _every(session, _of_largest(session, False), reserve, scratch=True)


def _of_largest(session: Session, wanted: bool) -> list[Step]:
    """The pre-trainings on the largest Ws, or all the others."""
    first, *_ = steps = session.encoders()
    return [step for step in steps if (ws_of(step) == ws_of(first)) == wanted]


def _every(
    session: Session, steps: Iterable[Step], reserve: float, *, scratch: bool
) -> list[tuple[Step, Step, Engine]]:
    """Pre-train with all epochs and fine-tune; what was planned, what was made of it, and by what."""
    found = []
    (first, *_) = session.encoders()
    for step in steps:
        place = "headline" if step == first else step.slug
        try:
            made, engine = pretrained(session, step, session.left - reserve, place=place, shorten=False)
        except OutOfTime as error:
            session.say(f"{step.slug}: {error}")
            continue
        finetune_all(session, step, made, engine, scratch=scratch)
        found.append((step, made, engine))
    return found
