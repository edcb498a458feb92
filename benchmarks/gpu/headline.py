"""The paper's results: pre-train on the largest Ws, fine-tune on every task, and from scratch; then the curve over Ws.

Artifacts are those of the study in the bundle, under its keys, with one exception: if the time does not allow for all
epochs of pre-training on the largest Ws, fewer are planned, and that is another step.
"""

from __future__ import annotations

from benchmarks.gpu.finetuning import finetune_all
from benchmarks.gpu.pretraining import pretrained
from benchmarks.gpu.session import Session
from tlm.artifacts.step import Step
from tlm.training.replay import OutOfTime


def headline(session: Session, *, reserve: float) -> None:
    """Pre-train, then fine-tune as often as there is time for; `reserve` seconds of it are kept for fine-tuning."""
    (largest, *_) = _by_ws(session)
    made, engine = pretrained(session, largest, session.left - reserve, place="headline", shorten=True)
    finetune_all(session, largest, made, engine)


def curve(session: Session, *, reserve: float) -> None:
    """The same for every smaller Ws of the bundle, the largest first, each with all its epochs or left for another call.

    Models from scratch are those of `headline`; those that it had no time for are trained here.
    """
    for step in _by_ws(session)[1:]:
        try:
            made, engine = pretrained(session, step, session.left - reserve, place=step.slug, shorten=False)
        except OutOfTime as error:
            session.say(f"{step.slug}: {error}")
            continue
        finetune_all(session, step, made, engine)


def _by_ws(session: Session) -> list[Step]:
    """The pre-trainings of the bundle, the largest Ws first."""
    return sorted(session.steps_of("pretrain"), key=lambda step: -int(str(step.labels["ws"])))
