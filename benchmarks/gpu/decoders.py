"""Small decoders, over a vocabulary and over bytes (arXiv 2405.14159), by the ordinary loop: they have no captured step."""

from __future__ import annotations

from benchmarks.gpu.session import Session, is_encoder
from tlm.execution.execute import execute
from tlm.execution.process import StageFailed
from tlm.machine.runtime import Runtime

LEAST_SECONDS = 10.0
"""Without so much left no further training begins."""


def decoders(session: Session) -> None:
    """Pre-train each decoder of the bundle for its number of steps, as `tlm run` does, each in a process of its own.

    One that had no time for all of them goes on from its checkpoint in another call.
    """
    for step in session.steps_of("pretrain"):
        if is_encoder(step):
            continue
        if session.left < LEAST_SECONDS:
            session.say(f"{step.slug}: no time is left")
            continue
        runtime = Runtime(home=str(session.home), device=session.device, workers=1, stage_timeout=session.left)
        try:
            record = execute(step, runtime).record
        except StageFailed as error:
            session.say(f"{step.slug}: {error}"[:500])
            session.keep("decoders", {step.slug: {"error": str(error)[:500]}})
            continue
        facts = {
            **record.facts,
            "seconds": record.seconds,
            "tokens_per_second": record.facts["tokens"] / record.seconds,
        }
        session.keep("decoders", {step.slug: facts})
        session.say(f"{step.slug}: pre-trained in {record.seconds:.1f} s: {record.facts}")
    session.pack()
