"""Which command makes a recorded study again: what `tlm report` prints beside its verdicts."""

from __future__ import annotations

from flows.studies import STUDIES
from flows.studies.scales import SCALES
from tlm.study.adapt import with_precision
from tlm.study.config import StudyConfig


def command_of(study: StudyConfig) -> str | None:
    """The command that makes this study, precision aside (that is the device's); None if no named study is just like it.

    A study from a file is made from that file, whose name is not recorded: `tlm run NAME.yaml` stands for it.
    """
    named = STUDIES.get(study.name)
    if named is None:
        return f"tlm run {study.name}.yaml"
    if study.scale not in (SCALES if named.scaled else (None,)):
        return None
    scale = f" --scale {study.scale}" if named.scaled else ""
    for origin in (None, "local", "hub") if named.scaled else (None,):
        if _as_recorded(named(study.scale, origin), study) == study:
            return f"tlm run {study.name}{scale}{f' --origin {origin}' if origin else ''}"
    return None


def _as_recorded(named: StudyConfig, study: StudyConfig) -> StudyConfig:
    """A plan resolves "auto"; every study here leaves the choice to the device."""
    precision = study.pretrain.precision
    return with_precision(named, precision) if precision != "auto" else named
