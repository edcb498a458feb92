"""What a stage's `run` is given, and the reading that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tlm.artifacts.step import Step
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Tokenizer, Vocabulary, load_tokenizer
from tlm.data.tokenizer_files import copy_beside_model
from tlm.machine.runtime import Runtime

if TYPE_CHECKING:
    from tlm.data.corpus import Sample
    from tlm.training.hooks import Hook
    from tlm.training.optimisation import Point

Facts = dict[str, object]
TEXTS_AT_ONCE = 4_096
ROWS_IN_GROUP = 196_608
"""Of a source's table, which are in memory together while they are written."""


@dataclass(frozen=True)
class Job:
    """One execution of a step: its inputs (complete artifacts), a folder to write to, and how it is run."""

    step: Step
    inputs: Mapping[str, Artifact]
    out: Path
    runtime: Runtime
    progress: Callable[[int, int], None]
    points: Callable[[list[Point]], None] | None = None
    """Who looks at learning curves while they are made, if anybody does."""

    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.inputs["tokenizer"])

    def vocabulary(self) -> Vocabulary:
        return self.tokenizer().vocabulary

    def copy_tokenizer(self, max_length: int) -> None:
        """Beside the model that is made: what transformers makes the same tokenizer of."""
        copy_beside_model(self.inputs["tokenizer"], self.out, max_length)

    def language_model(self) -> tuple[Any, dict[str, Any]]:
        """That of the input `model`, in float32, and what it was configured with."""
        from tlm.modeling.families.base import family_named
        from tlm.modeling.interchange import CONFIG_FILE, WEIGHTS_FILE, load_strict

        made = self.inputs["model"]
        config: dict[str, Any] = made.record.config
        family = family_named(config["architecture"]["kind"])
        return load_strict(family.language_model, made.folder((CONFIG_FILE, WEIGHTS_FILE))), config

    def sequences(self, input_name: str, name: str = "tokens") -> Ragged:
        artifact = self.inputs[input_name]
        return Ragged.load(artifact.path(f"{name}.ids.npy"), artifact.path(f"{name}.offsets.npy"))

    def sample(self, input_name: str) -> Sample:
        from tlm.data.corpus import Sample  # brings the samplers, and scipy with them: no training needs it

        def rows(role: str) -> np.ndarray:
            return np.load(self.inputs[input_name].path(f"{role}.npy"), allow_pickle=False)

        return Sample(heldout=rows("heldout_rows"), rows=rows("rows"), reserve=rows("reserve_rows"))

    def members(self) -> list[Artifact]:
        """Of a stage that is made of several models, these, in its order."""
        return [self.inputs[name] for name in sorted(self.inputs) if name.startswith("member_")]

    def frame(self, input_name: str, file: str, columns: list[str] | None = None) -> pd.DataFrame:
        return pd.read_parquet(self.inputs[input_name].path(file), columns=columns)

    def texts(self, at_once: int = TEXTS_AT_ONCE) -> Iterator[list[str]]:
        """The texts of the input `source` in its order, some at a time."""
        from tlm.data.sources.table import parquet_batches

        with pq.ParquetFile(self.inputs["source"].path("rows.parquet"), pre_buffer=False) as file:
            for batch in parquet_batches(file, ["text"], at_once):
                yield batch.column(0).to_pylist()

    def embeddings(self) -> NDArray[np.float32] | None:
        """The word vectors that a model begins with, (vocabulary, dimensions); None without an input `embeddings`."""
        given = self.inputs.get("embeddings")
        return np.load(given.path("vectors.npy"), allow_pickle=False) if given else None

    def task_tokens(self, part: str = "all") -> Ragged:
        """The token ids of the task's items of a split (train, dev, test), or of all; inputs task and task_tokens."""
        items = self.frame("task", "items.parquet", ["row", "part"])
        rows = items["row"] if part == "all" else items.loc[items["part"] == part, "row"]
        return self.sequences("task_tokens").take(rows.to_numpy())

    def write(self, table: pd.DataFrame | pa.Table, file: str) -> None:
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table, preserve_index=False)
        pq.write_table(table, self.out / file, compression="zstd")

    def write_parts(self, parts: Iterable[pa.Table], file: str) -> None:
        """Write a table that comes in parts: never more of it in memory than a group of rows, or one part."""
        writer: pq.ParquetWriter | None = None
        held: list[pa.Table] = []

        def flush() -> None:
            nonlocal writer, held
            table = pa.concat_tables(held)
            writer = writer or pq.ParquetWriter(self.out / file, table.schema, compression="zstd")
            writer.write_table(table)
            held = []

        try:
            for part in parts:
                held.append(part)
                if sum(table.num_rows for table in held) >= ROWS_IN_GROUP:
                    flush()
            if held:
                flush()
        finally:
            if writer is not None:
                writer.close()

    @contextmanager
    def stream(self, file: str, columns: list[str]) -> Iterator[Callable[[pd.DataFrame], None]]:
        """Write a table piece by piece: never more of it in memory than one piece."""
        writer: pq.ParquetWriter | None = None

        def write(piece: pd.DataFrame) -> None:
            nonlocal writer
            table = pa.Table.from_pandas(piece[columns], preserve_index=False)
            writer = writer or pq.ParquetWriter(self.out / file, table.schema, compression="zstd")
            writer.write_table(table)

        try:
            yield write
        finally:
            if writer is not None:
                writer.close()

    def training_hooks(self) -> tuple[Hook, ...]:
        """What happens beside this step's training: checkpoints, from which an interrupted run goes on; its curve."""
        from tlm.training.checkpoint import Checkpoints
        from tlm.training.hooks import ReportCurve

        folder = ArtifactStore(self.runtime.artifacts).checkpoints(self.step.ref)
        watched = (ReportCurve(self.points),) if self.points else ()
        return (Checkpoints(folder, self.step.key, self.runtime.checkpoint_seconds), *watched)
