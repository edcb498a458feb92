"""What the stages share: the bundle, the store, the device, the figures so far, and how much time is left."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu.preparing import Preparing
from tlm.artifacts.provenance import provenance
from tlm.artifacts.record import RECORD, leaving, to_file
from tlm.artifacts.step import Step
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary, load_tokenizer
from tlm.errors import UserError
from tlm.execution.archives import unpacked
from tlm.execution.bundle import ARTIFACTS, read_bundle
from tlm.execution.importing import import_records
from tlm.stages import STAGES
from tlm.stages.job import Job
from tlm.training.captured import Engine

FIGURES = "figures.json"
ARCHIVE = "artifacts.tar"
MOST_BYTES = 15 << 20
"""Of an archive; what is more goes into the next."""


@dataclass
class Session:
    """One call of the script. `figures` holds what each stage measured, and is written after each of them."""

    bundle: Path
    home: Path
    out: Path
    device: str
    preparing: Preparing
    engine: Engine | None = None
    """None: the best that works."""
    commit: str = ""
    """Of the code, where it is not in a git checkout."""
    made: tuple[Path, ...] = ()
    """Archives of earlier calls: what is in them is not trained again."""
    figures: dict[str, Any] = field(default_factory=dict)
    deadline: float = float("inf")
    """Of the stage that runs, by `time.monotonic`."""
    sound: dict[str, Engine] = field(default_factory=dict)
    """By architecture, what was found in this call to pre-train it best."""

    def __post_init__(self) -> None:
        self.store = ArtifactStore(str(self.home / "data/artifacts"))
        import_records(self.bundle, self.store, closed=False)
        for archive in self.made:
            with unpacked(archive) as folder:
                import_records(folder, self.store, closed=False)
        self.steps = read_bundle(self.bundle).steps
        self.out.mkdir(parents=True, exist_ok=True)
        kept = self.home / FIGURES
        if kept.exists():
            self.figures = json.loads(kept.read_text(encoding="utf-8"))
        self.figures["machine"] = {**machine(self.device), "commit": self.commit}

    @property
    def left(self) -> float:
        """Seconds of the stage that runs."""
        return self.deadline - time.monotonic()

    def keep(self, stage: str, found: dict[str, Any]) -> None:
        """Add to a stage's figures and write them, here and where they go home from."""
        self.figures[stage] = {**self.figures.get(stage, {}), **found}
        for folder in (self.home, self.out):
            (folder / FIGURES).write_text(json.dumps(self.figures, indent=1), encoding="utf-8")

    def say(self, line: str) -> None:
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stdout.flush()

    # --- input ---

    def steps_of(self, stage: str, **labels: Any) -> list[Step]:
        return [s for s in self.steps if s.stage == stage and all(s.labels.get(k) == v for k, v in labels.items())]

    def encoders(self) -> list[Step]:
        """The pre-trainings of encoders: the largest Ws first, seed by seed, the deepest first.

        Raises UserError if the bundle has none.
        """

        def turn(step: Step) -> tuple[int, int, int]:
            seed, layers = int(str(step.labels["pretrain_seed"])), int(step.config["architecture"]["num_hidden_layers"])
            return -ws_of(step), seed, -layers

        found = sorted((step for step in self.steps_of("pretrain") if is_encoder(step)), key=turn)
        if not found:
            raise UserError(f"{self.bundle} has no encoder to pre-train.", "Ask for --stages decoders.")
        return found

    def input(self, step: Step, name: str) -> Artifact:
        return self.store.get(step.inputs[name])

    def vocabulary(self, step: Step) -> Vocabulary:
        return load_tokenizer(self.input(step, "tokenizer")).vocabulary

    def sequences(self, step: Step, name: str, part: str = "tokens") -> Ragged:
        """In memory: other processes are sent them."""
        artifact = self.input(step, name)
        mapped = Ragged.load(artifact.path(f"{part}.ids.npy"), artifact.path(f"{part}.offsets.npy"))
        return Ragged(mapped.ids.copy(), mapped.offsets.copy())

    def job(self, step: Step, draft: Path) -> Job:
        from tlm.machine.runtime import Runtime

        runtime = Runtime(home=str(self.home), device="cuda" if self.device == "cuda" else "cpu")
        return Job(
            step, {name: self.input(step, name) for name in step.inputs}, draft, runtime, lambda done, total: None
        )

    # --- output ---

    def provenance(self, engine: Engine) -> dict[str, Any]:
        """Where and how, for a record."""
        more: dict[str, Any] = {"device": self.device, "threads": torch.get_num_threads(), "engine": str(engine)}
        if self.commit:
            more |= {"git_commit": self.commit, "git_dirty": False}
        return provenance(**more, gpu=self.figures["machine"]["device"])

    def pack(self) -> None:
        """Everything but weights of what was trained in this home, in archives that are small enough to travel.

        The records in them say which files were left behind: `tlm import` takes the archives.
        """
        archive: tarfile.TarFile | None = None
        size = count = 0
        for _, seen in self.store.inspect_all():
            if seen.status != "complete" or seen.record is None or not STAGES[seen.record.stage].weights:
                continue
            record = leaving(seen.record, STAGES[seen.record.stage].weights)
            own = sum(output.bytes for output in record.outputs.values())
            if archive is None or size + own > MOST_BYTES:
                if archive is not None:
                    archive.close()
                archive = tarfile.open(self.out / f"{count}-{ARCHIVE}", "w")  # noqa: SIM115  # closed when it is full
                size, count = 0, count + 1
            for name in record.outputs:
                archive.add(self.store.local_path(record, name), f"{ARTIFACTS}/{record.ref}/{name}")
            _add(archive, f"{ARTIFACTS}/{record.ref}/{RECORD}", to_file(record))
            size += own
        if archive is not None:
            archive.close()


def ws_of(step: Step) -> int:
    return int(str(step.labels["ws"]))


def is_encoder(step: Step) -> bool:
    return bool(step.config["architecture"]["kind"] == "encoder")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(content), int(time.time())
    archive.addfile(entry, io.BytesIO(content))


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def free(device: str) -> None:
    """Give back the memory of what is no longer used."""
    import gc

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
