"""An artifact of two files, for the tests of the store to publish."""

from __future__ import annotations

from pathlib import Path

from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore

FILES = {"rows.bin": b"0123456789" * 100, "plots/curve.txt": b"a curve"}


def a_step(seed: int = 0, slug: str = "some-rows") -> Step:
    return Step(
        stage="source",
        version="1",
        config={"seed": seed, "share": 0.25},
        slug=slug,
        labels={"ws": 5, "treatment": None},
    )


def publish(store: ArtifactStore, step: Step) -> Record:
    with store.lock(step.ref), store.draft(step.ref) as draft:
        for name, content in FILES.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_bytes(content)
        return store.publish(step, draft, facts={"rows": 3}, provenance={"git_commit": "c0ffee"}, seconds=1.23456)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
