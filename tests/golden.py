"""What identifies every result of the named studies, written down, so that no change alters it unawares.

`tests/golden/keys.tsv` holds every step of every named study at every scale: its stage, slug and key, and a digest of its
labels and inputs. `tests/golden/outputs.json` holds the digests of what the miniature study makes. A change that is meant
to alter them runs `python tests/golden.py`, and says in its commit why.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from helpers import Mini

from flows.loading import load_study
from flows.studies import STUDIES
from flows.studies.scales import SCALES
from tlm.artifacts.fingerprint import canonical_json
from tlm.artifacts.step import Step
from tlm.data import benchmarks
from tlm.data.sources import docstrings
from tlm.machine.precision import processor
from tlm.planning.plan import Plan, plan
from tlm.stages import STAGES
from tlm.study.config import StudyConfig

FOLDER = Path(__file__).parent / "golden"
KEYS = FOLDER / "keys.tsv"
OUTPUTS = FOLDER / "outputs.json"
UNREPEATABLE = ("latency", "report")
"""Stages whose outputs hold times: two runs of them differ."""
ON_THE_HUB = (
    "corpus.source.origin=hub",
    "tasks.0.source.origin=hub",
    "tasks.1.source.origin=hub",
    "tasks.2.source.origin=hub",
)
"""Of quickstart, which has no scales: what is on the Hub is identified without a file."""


def studies() -> Iterator[StudyConfig]:
    """Every named study at each of its scales, all sources on the Hub or among the installed libraries."""
    for name, named in STUDIES.items():
        if named.scaled:
            for scale in SCALES:
                yield load_study(name, scale=scale, origin="hub")
        else:
            yield load_study(name, list(ON_THE_HUB) if name == "quickstart" else [])


def plan_anywhere(study: StudyConfig) -> Plan:
    """Its plan in bfloat16, whatever this processor prefers, as if every installed library had version 1, and with
    benchmarks by name: their files are on no Hub."""
    with (
        patch.object(docstrings, "_versions", lambda library: {library: "1"}),
        patch.object(benchmarks, "identity", lambda benchmark, data_root: benchmark.identity(exclude={"path"})),
    ):
        return plan(study, "/nowhere", precision="bfloat16")


def describe(step: Step) -> str:
    """stage/slug, key, and a short digest of the names of its labels and inputs with their values."""
    inputs = {name: str(ref) for name, ref in step.inputs.items()}
    aside = hashlib.sha256(canonical_json({"labels": step.labels, "inputs": inputs}).encode()).hexdigest()
    return f"{step.stage}/{step.slug}\t{step.key}\t{aside[:12]}"


def keys() -> str:
    """The text of keys.tsv: a heading for each study and scale, then its steps, those above it had already left out."""
    lines: list[str] = []
    seen: set[str] = set()
    for study in studies():
        lines.append(f"# {study.name} {study.scale or ''}".rstrip())
        steps = [describe(step) for step in plan_anywhere(study).steps]
        lines += [line for line in steps if line not in seen]
        seen |= set(steps)
    return "\n".join(lines) + "\n"


def machine() -> str:
    """What the bits of a training depend on, besides the study."""
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def outputs(mini: Mini) -> dict[str, dict[str, str]]:
    """Of the steps of the miniature study that repeat themselves: name → the digest of each output."""
    return {
        f"{step.stage}/{step.slug}": {name: out.sha256 for name, out in mini.first[step.key].record.outputs.items()}
        for step in mini.plan.steps
        if step.stage not in UNREPEATABLE
    }


def by_machine(made: dict[str, dict[str, str]], *, trained: bool) -> dict[str, dict[str, str]]:
    """Those whose bits depend on the processor (trained models and what is made of them), or the others."""
    depends = {stage.name for stage in STAGES.values() if stage.trains} | {"committee", "baseline"}
    return {name: of for name, of in made.items() if (name.partition("/")[0] in depends) == trained}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    KEYS.write_text(keys(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        made = outputs(Mini(Path(folder)))
    known = json.loads(OUTPUTS.read_text(encoding="utf-8")) if OUTPUTS.exists() else {"trained": {}}
    known["data"] = by_machine(made, trained=False)
    known["trained"][machine()] = by_machine(made, trained=True)
    OUTPUTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
