"""Checks of a whole study before any of its work: what can fail on bad input fails here, with nothing written."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pyarrow.parquet as pq

from tlm.artifacts.fingerprint import canonical_json
from tlm.artifacts.step import Step
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.data import benchmarks, sources
from tlm.data.corpus import check_size
from tlm.data.items import select_items
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.planning.disk import check_disk
from tlm.planning.memory import check_memory
from tlm.planning.plan import Plan, plan
from tlm.planning.registries import check_registries
from tlm.planning.weights import check_weights
from tlm.stages import Benchmark
from tlm.study.base import slugify
from tlm.study.config import StudyConfig
from tlm.study.families import FAMILIES
from tlm.study.sources import Source


def check(
    study: StudyConfig,
    runtime: Runtime,
    *,
    settle: Callable[[StudyConfig], StudyConfig] = lambda study: study,
    trains_here: bool = True,
) -> Plan:
    """Return the study's plan once everything that can be checked without doing the work holds.

    Local sources that no artifact holds yet are read and compared with what the study asks of them. Hub sources are only
    reached for; their sizes are known once they are downloaded, in the study's first stage.

    Args:
        settle: what says which precision "auto" is (`tlm.cost.precision.settled`): it may measure for a second, and is
            called once all else holds.
        trains_here: whether it is to be trained on this machine, which then needs the memory and the disk.

    Raises:
        UserError: naming the value, the place and the remedy.
    """
    check_registries(study)
    runtime.check_writable()
    ArtifactStore(runtime.artifacts).shelf.check_usable()
    if trains_here and runtime.device == "cuda":
        runtime.torch_device()
    planned = plan(study, runtime.data_root)
    _check_tokenizer(study, planned, runtime)
    _check_data(study, planned, runtime)
    _check_benchmarks(planned, runtime)
    planned = plan(settle(study), runtime.data_root)
    store = ArtifactStore(runtime.artifacts)
    todo = [step for step in planned.steps if not _is_complete(store, step)]
    check_weights(todo, store)
    if trains_here:
        check_memory(study, todo, runtime)
        check_disk(study, todo, runtime)
    return planned


def _check_tokenizer(study: StudyConfig, planned: Plan, runtime: Runtime) -> None:
    """It has the special tokens that the study needs, and can be had, unless an artifact holds it already."""
    lacking = sorted(_special_tokens_needed(study) - study.tokenizer.special_tokens)
    if lacking:
        raise UserError(
            f"tokenizer: kind {study.tokenizer.kind} has no {', '.join(f'[{name.upper()}]' for name in lacking)}, which "
            "the study needs.",
            "Use another tokenizer.",
        )
    step = next(step for step in planned.steps if step.stage == "tokenizer")
    if not _is_complete(ArtifactStore(runtime.artifacts), step):
        study.tokenizer.check_available()


def _special_tokens_needed(study: StudyConfig) -> set[str]:
    needed = {"pad", "sep"} if study.tokenizer.units == "byte" else {"pad", "cls", "sep"}
    trained = (study, *(own for _, _, own in study.in_arms()))
    if any(own.pretrain.objective_for(FAMILIES[each.kind]).masks for own in trained for each in own.architectures):
        needed.add("mask")
    if any(getattr(treatment, "removal", None) == "unk" for treatment in study.treatments):
        needed.add("unk")
    return needed


def _check_data(study: StudyConfig, planned: Plan, runtime: Runtime) -> None:
    store = ArtifactStore(runtime.artifacts)
    texts = _Texts(planned, store, runtime)
    rows = texts.rows(study.corpus.source)
    if rows is not None:
        own = [t.general if t.kind == "foreign" else t.ws for t in study.treatments]
        ws = max(*study.corpus.sizes, *own, 0)
        check_size(rows, ws=ws, heldout=study.corpus.heldout, advice=_what_a_paragraph_is(study.corpus.source))
    for treatment in study.treatments:
        if treatment.kind == "foreign":
            there = texts.rows(treatment.source)
            if there is not None and there < treatment.own:
                raise UserError(
                    f"treatments.{treatment.name}: own={treatment.own}, but its source has {there} paragraphs.",
                    f"Choose up to {there}. {_what_a_paragraph_is(treatment.source)}".rstrip(),
                )
    made = {step.slug for step in planned.steps if step.stage == "task" and _is_complete(store, step)}
    for task in study.tasks:
        labelled = None if slugify(task.name) in made else texts.labels(task.source)
        if labelled is not None:
            table, names = labelled
            if names is None:
                raise UserError(
                    f"task {task.name}: its source has no labels.", "Name its label_column, or use another source."
                )
            select_items(table, names, task.selection, task.name)


def _check_benchmarks(planned: Plan, runtime: Runtime) -> None:
    """Every benchmark that no artifact holds yet can be read."""
    store = ArtifactStore(runtime.artifacts)
    for step in planned.steps:
        if step.stage == Benchmark.name and not _is_complete(store, step):
            benchmarks.read(Benchmark.of(step).benchmark, runtime.data_root)


def _what_a_paragraph_is(source: Source) -> str:
    """Advice for whoever has fewer paragraphs than they thought; empty where every row is one."""
    if source.kind != "files" or source.format != "text":
        return ""
    return (
        f"In {source.path} a paragraph ends at a blank line: if each line is a document, put a blank line after it, or "
        "save the file as JSON lines (format: jsonl)."
    )


class _Texts:
    """What is known of the study's sources: from their artifacts if they have been read before, else by reading them."""

    def __init__(self, planned: Plan, store: ArtifactStore, runtime: Runtime) -> None:
        self.store = store
        self.data_root = runtime.data_root
        self.steps = {canonical_json(s.access["source"]): s for s in planned.steps if s.stage == "source"}
        self.loaded: dict[str, sources.Loaded | None] = {}

    def rows(self, source: Source) -> int | None:
        artifact = self._artifact(source)
        if artifact is not None:
            return int(artifact.record.facts["rows"])
        loaded = self._load(source)
        return None if loaded is None else loaded.table.num_rows

    def labels(self, source: Source) -> tuple[pd.DataFrame, tuple[str, ...] | None] | None:
        artifact = self._artifact(source)
        if artifact is not None:
            names = artifact.record.facts["label_names"]
            if names is None:
                return pd.DataFrame(), None
            table = pq.read_table(artifact.path("rows.parquet"), columns=["label", "split"])
            return table.to_pandas(), tuple(names)
        loaded = self._load(source)
        if loaded is None or loaded.label_names is None:
            return None if loaded is None else (pd.DataFrame(), None)
        return loaded.table.select(["label", "split"]).to_pandas(), loaded.label_names

    def _artifact(self, source: Source) -> Artifact | None:
        step = self.steps.get(canonical_json(source.model_dump(mode="json")))
        return self.store.get(step.ref) if step and _is_complete(self.store, step) else None

    def _load(self, source: Source) -> sources.Loaded | None:
        """Read a local source; for one on the Hub, only make sure that it can be reached."""
        key = canonical_json(source.model_dump(mode="json"))
        if key not in self.loaded:
            sources.preflight(source, self.data_root)
            remote = source.kind == "hub" or getattr(source, "origin", "local") == "hub"
            self.loaded[key] = None if remote else sources.read(source, self.data_root)
        return self.loaded[key]


def _is_complete(store: ArtifactStore, step: Step) -> bool:
    return store.inspect(step.ref, verify=False).status == "complete"
