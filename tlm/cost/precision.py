"""Which precision "auto" means for a study: the one it began with here, else the one that is faster, measured once.

A processor with instructions for bfloat16 may still multiply it at half the speed of float32. So a part of a real step, at
the study's shapes, is timed in both (`tlm.cost.miniature`), in a child process, for about a second. The result is kept
under TLM_HOME for that processor, torch, number of threads and shape: the same study is answered the same tomorrow.
Precision is part of identity, so a home that moves to another processor goes on with what its artifacts were trained in.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from tlm.artifacts.fingerprint import SHORT, canonical_json
from tlm.artifacts.store import ArtifactStore
from tlm.cost.shape import Shape
from tlm.errors import UserError
from tlm.execution.process import Child, talk_to_parent
from tlm.machine.files import locked, read_plain
from tlm.machine.precision import Resolved, native_precision, processor, processor_name
from tlm.machine.runtime import Runtime
from tlm.modeling.cost import pretraining_flops
from tlm.planning.plan import plan
from tlm.stages import STAGES
from tlm.study.adapt import with_precision
from tlm.study.architecture import Architecture
from tlm.study.base import Frozen
from tlm.study.config import StudyConfig

IN_DOUBT = 1.03
"""How many times as fast bfloat16 has to be to be chosen: what is less may be chance, and float32 rounds less."""
WITHOUT_MEASURING = "Or choose: --set pretrain.precision=float32 --set finetune.precision=float32."
KEPT_BYTES = 100_000
"""The largest kept measurement that is read; one has about 1 kB."""

Seconds = Mapping[Resolved, Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class Measurement(Frozen):
    """Processor time of one step in each precision, and all that it depends on."""

    processor: str
    torch: str
    threads: int
    shape: Shape
    seconds: Seconds = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """SHA-256 of what it depends on."""
        return hashlib.sha256(canonical_json(self.identity(exclude={"seconds"})).encode()).hexdigest()


@dataclass(frozen=True)
class Choice:
    precision: Resolved
    reason: str

    def __str__(self) -> str:
        return f"Precision: {self.precision}: {self.reason}."


def settled(
    study: StudyConfig,
    runtime: Runtime,
    say: Callable[[str], None] = lambda line: None,
    *,
    measuring: bool = True,
) -> StudyConfig:
    """The same study with every precision "auto" replaced by what it means here, which `say` is told with the reason.

    Args:
        measuring: False takes what the processor has instructions for where nothing was measured yet, and writes nothing.

    Raises:
        UserError: if source or vocabulary files are missing, naming all of them, or as `measure`.
        StageFailed: if the measuring process dies.
    """
    if "auto" not in (study.pretrain.precision, study.finetune.precision):
        return study
    choice = choose(study, runtime, measuring=measuring)
    say(str(choice))
    return with_precision(study, choice.precision)


def choose(study: StudyConfig, runtime: Runtime, *, measuring: bool = True) -> Choice:
    """What "auto" means for this study, in this home, on this machine. Arguments and errors are those of `settled`."""
    begun = _begun(study, runtime)
    if begun is not None:
        return Choice(begun, "what the study's models in this home were trained in")
    if runtime.trains_on_gpu:
        return Choice("bfloat16", "the GPU multiplies it")
    if native_precision("cpu") == "float32":
        return Choice("float32", "this processor has no instructions for bfloat16")
    measured = _kept_or_measured(study, runtime, measuring)
    if measured is None:
        return Choice("bfloat16", "this processor has instructions for it; a run measures whether it is faster")
    shape, seconds = measured.shape, measured.seconds
    layers = shape.architecture.num_hidden_layers
    return Choice(
        faster(seconds),
        f"a step takes {seconds['float32'] / seconds['bfloat16']:.2f} times as long in float32 as in bfloat16, measured on "
        f"this processor (hidden {shape.architecture.hidden_size}, {layers} layer{'s' * (layers > 1)}, vocabulary "
        f"{shape.vocab_size:,}, threads {measured.threads})",
    )


def shape_of(study: StudyConfig, data_root: str) -> Shape:
    """The shape that a study's precision is measured at: that of its architecture with the most operations."""
    vocab_size, _ = study.tokenizer.vocabulary_size(data_root)

    def flops(architecture: Architecture) -> float:
        return pretraining_flops(architecture, study.pretrain, study.max_length, vocab_size)

    largest = max(study.architectures, key=flops)
    return Shape.of(largest, study.pretrain.objective, study.pretrain.mlm_probability, study.max_length, vocab_size)


def faster(seconds: Seconds) -> Resolved:
    """The precision whose time is the least; float32 in doubt."""
    return "bfloat16" if seconds["float32"] > IN_DOUBT * seconds["bfloat16"] else "float32"


def _begun(study: StudyConfig, runtime: Runtime) -> Resolved | None:
    """The precision in which this home holds more of the study's trained models; None if it holds as many of both."""
    store = ArtifactStore(runtime.artifacts)
    if not any(stage.trains and store.holds(name) for name, stage in STAGES.items()):
        return None

    def held(precision: Resolved) -> int:
        steps = plan(with_precision(study, precision), runtime.data_root).steps
        found = store.inspect_each((step.ref for step in steps if STAGES[step.stage].trains), verify=False)
        return sum(seen.status == "complete" for seen in found.values())

    full, half = held("float32"), held("bfloat16")
    return None if full == half else "float32" if full > half else "bfloat16"


def _kept_or_measured(study: StudyConfig, runtime: Runtime, measuring: bool) -> Measurement | None:
    """What was measured here before, or is measured now and kept. One command measures, others wait for it."""
    if not measuring and not runtime.precisions.is_dir():
        return None
    wanted = Measurement(
        processor=f"{processor_name()}, {processor()}",
        torch=version("torch"),
        threads=runtime.threads,
        shape=shape_of(study, runtime.data_root),
    )
    path = runtime.precisions / f"{wanted.key[:SHORT]}.json"
    if not measuring:
        return _read(path, wanted)
    with ExitStack() as held:
        with suppress(OSError):  # a home that is only read keeps nothing
            held.enter_context(locked(path.with_suffix(".lock")))
        kept = _read(path, wanted)
        if kept is None:
            kept = wanted.model_copy(update={"seconds": measure(wanted.shape, runtime)})
            with suppress(OSError):
                _write(kept, path)
    return kept


def _read(path: Path, wanted: Measurement) -> Measurement | None:
    """What was kept of a measurement; None if nothing was, or something else stands there: it is measured anew."""
    with suppress(OSError, ValidationError):
        kept = Measurement.model_validate_json(read_plain(path, KEPT_BYTES))
        return kept if kept.key == wanted.key and {*kept.seconds} == {"float32", "bfloat16"} else None
    return None


def _write(kept: Measurement, path: Path) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(kept.model_dump_json(indent=1), encoding="utf-8")
    os.replace(draft, path)


def measure(shape: Shape, runtime: Runtime) -> Seconds:
    """Time both precisions in a process like those that train.

    Raises:
        UserError: if the memory does not hold the small batch.
        StageFailed: if the process dies.
    """
    with Child("tlm.cost.precision", "measuring precisions", runtime) as child:
        child.say(runtime=runtime.model_dump(mode="json"), shape=shape.model_dump(mode="json"))
        try:
            seconds: Seconds = child.hear()["seconds"]
        except UserError as error:
            raise UserError(error.problem, f"{error.remedy} {WITHOUT_MEASURING}".strip()) from None
        return seconds


def main() -> None:
    """The child."""
    with talk_to_parent() as parent:
        given = parent.hear()

        from tlm.cost.measure import prepare
        from tlm.cost.miniature import seconds_in_each
        from tlm.training.memory import out_of_memory_is

        prepare(Runtime.model_validate({**given["runtime"], "device": "cpu"}))
        with out_of_memory_is("out of memory while measuring which precision is faster"):
            parent.say(seconds=seconds_in_each(Shape.model_validate(given["shape"])))


if __name__ == "__main__":
    main()
