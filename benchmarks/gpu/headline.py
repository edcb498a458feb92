"""The paper's results: pre-train on the largest Ws, fine-tune on every task, and from scratch; committees; the curve.

Artifacts are those of the study in the bundle, under its keys, with one exception: if the time does not allow for all
epochs of the first pre-training, fewer are planned, and that is another step.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.gpu.finetuning import finetune_all
from benchmarks.gpu.pretraining import pretrained
from benchmarks.gpu.session import Session
from tlm.artifacts.step import Step
from tlm.training.captured import Engine
from tlm.training.replay import OutOfTime


def headline(session: Session, *, reserve: float) -> None:
    """Pre-train, then fine-tune as often as there is time for; `reserve` seconds of it are kept for fine-tuning."""
    step = _in_turn(session)[0]
    made, engine = pretrained(session, step, session.left - reserve, place="headline", shorten=True)
    finetune_all(session, step, made, engine)


def committee(session: Session, *, reserve: float) -> None:
    """Every architecture of the largest Ws, a seed after another; models from scratch when all of these are there."""
    steps = [step for step in _in_turn(session) if _ws(step) == _ws(_in_turn(session)[0])]
    made = _every(session, steps, reserve, scratch=False)
    for step, pretraining, engine in made:
        finetune_all(session, step, pretraining, engine)


def curve(session: Session, *, reserve: float) -> None:
    """The same for every smaller Ws of the bundle, the largest first, each with all its epochs or left for another call.

    Models from scratch are those of `headline`; those that it had no time for are trained here.
    """
    largest = _ws(_in_turn(session)[0])
    _every(session, [step for step in _in_turn(session) if _ws(step) < largest], reserve, scratch=True)


def _every(
    session: Session, steps: Iterable[Step], reserve: float, *, scratch: bool
) -> list[tuple[Step, Step, Engine]]:
    """Pre-train with all epochs and fine-tune; what was planned, what was made of it, and by what."""
    found = []
    for step in steps:
        place = "headline" if step == _in_turn(session)[0] else step.slug
        try:
            made, engine = pretrained(session, step, session.left - reserve, place=place, shorten=False)
        except OutOfTime as error:
            session.say(f"{step.slug}: {error}")
            continue
        finetune_all(session, step, made, engine, scratch=scratch)
        found.append((step, made, engine))
    return found


def _in_turn(session: Session) -> list[Step]:
    """The pre-trainings of the bundle: the largest Ws first, seed by seed, the deepest first."""

    def turn(step: Step) -> tuple[int, int, int]:
        seed, layers = int(str(step.labels["pretrain_seed"])), int(step.config["architecture"]["num_hidden_layers"])
        return -_ws(step), seed, -layers

    return sorted(session.encoders(), key=turn)


def _ws(step: Step) -> int:
    return int(str(step.labels["ws"]))
