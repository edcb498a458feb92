"""What a contender is built from."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from benchmarks.cases import MLM_PROBABILITY, Case
from benchmarks.workload import Workload


@dataclass(frozen=True)
class Setting:
    """All that a contender is built from."""

    case: Case
    workload: Workload
    device: str
    bfloat16: bool
    """What "auto" means to tlm here."""

    @classmethod
    def of(cls, case: Case, workload: Workload, device: str) -> Setting:
        """With what "auto" means on this device, at this case's shapes: measured, as a study has it measured."""
        from tlm.cost.miniature import seconds_in_each
        from tlm.cost.precision import faster
        from tlm.cost.shape import Shape
        from tlm.machine.precision import native_precision
        from tlm.study.architecture import Architecture

        chosen = native_precision(device)
        if device == "cpu" and chosen == "bfloat16":
            architecture = Architecture(name=case.name, **asdict(case.shape))
            shape = Shape.of(architecture, None, MLM_PROBABILITY, case.max_length, len(workload.vocabulary))
            chosen = faster(seconds_in_each(shape))
        return cls(case, workload, device, chosen == "bfloat16")
