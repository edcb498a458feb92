"""What a stage is: one class, with all that is known of it, in a module of its own beside this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache, cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, dataclass_transform, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError, create_model

from tlm.artifacts.dry_runs import LABEL, dry_run_label
from tlm.artifacts.record import first_fault
from tlm.artifacts.step import LONGEST_SLUG, Label, Step
from tlm.artifacts.tables import Table
from tlm.machine.extensions import load_extensions
from tlm.study.base import Frozen, Seed, slugify
from tlm.study.dry_run import is_dry_run

if TYPE_CHECKING:
    from tlm.artifacts.record import Record
    from tlm.artifacts.store import Artifact
    from tlm.stages.job import Facts, Job

T = TypeVar("T")
Flat = Annotated[T, "flat"]
"""A field whose own fields stand in the step's config in its place."""
Aside = Annotated[T, "aside"]
"""A field that is no identity: what a study calls something, or how to reach it."""

Count = Seed
"""Of facts: a whole number that a column holds."""
Role = Literal["corpus", "embeds", "pretrains", "predicts", "combines"]


class Stages(Mapping[str, "type[Stage]"]):
    """Every stage by name: the package's own in the order of `tlm.stages`, then those of extensions.

    A class is here once it is defined.
    """

    def __init__(self) -> None:
        self._known: dict[str, type[Stage]] = {}

    def add(self, kind: type[Stage]) -> None:
        """Raises TypeError if another class has its name; the same one may be defined again (a module reloaded)."""
        there = self._known.get(kind.name, kind)
        if (there.__module__, there.__qualname__) != (kind.__module__, kind.__qualname__):
            raise TypeError(f"stage {kind.name!r} is defined in {there.__module__} and in {kind.__module__}")
        self._known[kind.name] = kind

    def __getitem__(self, name: str) -> type[Stage]:
        if name not in self._known:
            load_extensions()
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        load_extensions()
        return iter(self._known)

    def __len__(self) -> int:
        load_extensions()
        return len(self._known)


STAGES = Stages()


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Stage:
    """One use of a stage in a study: a subclass is a stage, its instances make up a study's graph.

        class Double(Stage, name="double", version="1"):
            numbers: Numbers      # a field that is a stage is an input
            factor: int = 2       # any other is identity, unless it has its default
            title: Aside[str]     # unless it is marked as none

    Bump `version` when what the stage makes changes its meaning: every artifact below it is then made anew. A module of a
    stage imports what only `run` needs inside it, so that a study is planned without torch.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    trains: ClassVar[bool] = False
    """Runs in torch: gets a child process of its own, which can be timed out and killed."""
    alone: ClassVar[bool] = False
    """Measures the machine that it runs on: an engine lets nothing else run there meanwhile."""
    retries: ClassVar[int] = 0
    """How often to try again what may go better next time, such as a download."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Packages that `run` imports and that a machine which only trains may lack."""
    role: ClassVar[Role | None] = None
    pages: ClassVar[bool] = False
    """Makes pages that a browser shows: those that come from another machine are made again (`tlm.execution.pages`)."""
    outputs: ClassVar[Mapping[str, Table | None]] = {}
    """What it makes: file → the table that its rows belong to, None if it is read by other stages alone."""
    weights: ClassVar[tuple[str, ...]] = ()
    """Of its outputs, those too large to travel: an artifact is complete without them if its record says that they were
    left behind. Who reads results needs none of them."""
    reads_weights: ClassVar[bool] = False
    """Whether `run` reads the weights of its inputs: where they were left behind, it cannot run, and a study that asks for
    it is refused before any work."""
    told: ClassVar[Mapping[str, Any]] = {}
    """Facts that others read (a plan, other stages, what is said once it is made): name → type."""

    def __init_subclass__(cls, *, name: str | None = None, version: str = "", trains: bool = False) -> None:
        super().__init_subclass__()
        if name is None:  # a family of stages, not one
            return
        cls.name, cls.version, cls.trains = name, version, trains
        dataclass(frozen=True, kw_only=True, eq=False)(cls)
        STAGES.add(cls)

    # --- what a stage says of itself ---

    @property
    def slug(self) -> str:
        """What tells its artifacts apart at a glance: part of a folder's name, not of identity."""
        return self.name

    @property
    def labels(self) -> dict[str, Label]:
        """By what tables and people look for it (ws, arch, task, seed, …): not identity."""
        return {}

    def run(self, job: Job) -> Facts:
        """Make its artifact: read `job.inputs`, write into `job.out`, and return small results for the record.

        Here the fields that are stages hold references; the artifacts behind them are in `job.inputs`.
        """
        raise TypeError(f"stage {self.name} has no run")

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        """What a person should know of an artifact before training goes on, a sentence each; said once it is made."""
        return []

    @classmethod
    def fault(cls, record: Record) -> str:
        """Why others could not use an artifact although it is as its record says: what it lacks. "" if they can."""
        if left := sorted(record.left_behind.keys() - {*cls.weights}):
            return f"it was left without {', '.join(left)}, which are no weights"
        if lacking := sorted(cls.outputs.keys() - record.outputs.keys() - record.left_behind.keys()):
            return f"it lacks {', '.join(lacking)}"
        try:
            facts: Any = {name: (kind, ...) for name, kind in cls.told.items()}
            create_model("facts", **facts).model_validate(record.facts)
        except ValidationError as error:
            return f"its facts are not those of its stage ({first_fault(error)})"
        return ""

    @classmethod
    def read_back(cls, artifact: Artifact) -> dict[str, Any]:
        """What of a step is no identity (its `access`), from an artifact: what is made again from its record needs it."""
        return {}

    @classmethod
    def missing_package(cls) -> str | None:
        """The first package of `requires` that this Python does not have."""
        return next((package for package in cls.requires if find_spec(package) is None), None)

    # --- as a step ---

    @cached_property
    def step(self) -> Step:
        """It as plain data, with its key."""
        return Step(
            stage=self.name,
            version=self.version,
            config=self.config(),
            inputs={name: given.step.ref for name, given in self.inputs().items()},
            slug=_short(slugify(self.slug)),
            labels={**self.labels, **dry_run_label(self.is_dry_run)},
            access=self._access(),
        )

    @property
    def is_dry_run(self) -> bool:
        """Whether a training of it, or of what it is made from, ends early."""
        return is_dry_run(self.config()) or any(LABEL in given.step.labels for given in self.inputs().values())

    def inputs(self) -> dict[str, Stage]:
        """The stages that it is made from, by the names under which `run` finds their artifacts: a field's own, and of
        several, `members` say, member_000, member_001 and so on."""
        single = {name: value for name, value in self._values() if isinstance(value, Stage)}
        several = ((field.name, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        numbered = {
            f"{name.removesuffix('s')}_{index:03d}": each
            for name, value in several
            if _are_stages(value)
            for index, each in enumerate(value)
        }
        return {**single, **numbered}

    def config(self) -> dict[str, Any]:
        """What defines it besides its inputs; a field that has its default is left out."""
        config: dict[str, Any] = {}
        for name, value in self._values():
            if isinstance(value, Stage) or _marked(self, name, "aside"):
                continue
            if not _marked(self, name, "flat"):
                config[name] = _identity(value)
                continue
            own = _identity(value)
            if twice := own.keys() & {*config, *_plain_fields(type(self))}:
                raise TypeError(f"stage {self.name}: {name} and another field both define {sorted(twice)}")
            config |= own
        return config

    @classmethod
    def of(cls, step: Step) -> Self:
        """The stage again, from its step: what `run` is called on, perhaps in another process.

        The step's config decides; `access` only adds what is no part of it.
        """
        given: dict[str, Any] = {}
        for name, hint in _hints(cls).items():
            if name in step.inputs:
                given[name] = step.inputs[name]
                continue
            if "flat" in _marks(hint):
                value = {key: own for key, own in step.config.items() if key not in _plain_fields(cls)}
            elif name in _plain_fields(cls) and name in step.config:
                value = _filled_in(step.config[name], step.access.get(name))
            elif name in step.access:
                value = step.access[name]
            else:
                continue
            given[name] = TypeAdapter(hint).validate_python(value)
        return cls(**given)

    def _access(self) -> dict[str, Any]:
        """Every field that cannot be read back from the config."""
        access = {}
        for name, value in self._values():
            if isinstance(value, Stage):
                continue
            whole = _plain(value)
            if _marked(self, name, "aside") or (not _marked(self, name, "flat") and whole != _identity(value)):
                access[name] = whole
        return access

    def _values(self) -> list[tuple[str, Any]]:
        """Fields and values, without those that have their default and without tuples of stages."""
        own: tuple[Field[Any], ...] = fields(self)  # type: ignore[arg-type]
        values = [(field.name, getattr(self, field.name)) for field in own if not _has_default(self, field)]
        return [(name, value) for name, value in values if not _are_stages(value)]


def _short(slug: str) -> str:
    """A slug that is too long for a folder's name, without its middle: seeds are at its end."""
    half = LONGEST_SLUG // 2 - 1
    return slug if len(slug) <= LONGEST_SLUG else f"{slug[:half]}..{slug[-half:]}"


def _has_default(stage: Stage, field: Field[Any]) -> bool:
    return field.default is not MISSING and bool(getattr(stage, field.name) == field.default)


def _are_stages(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(each, Stage) for each in value)


@cache
def _cached_hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def _hints(cls: Any) -> dict[str, Any]:
    """Field → type, with its marks."""
    return _cached_hints(cls)


def _plain_fields(cls: type[Stage]) -> set[str]:
    """Those that stand in the config under their own names."""
    return {name for name, hint in _hints(cls).items() if not _marks(hint)}


def _marks(hint: Any) -> list[str]:
    return [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, str)]


def _marked(stage: Stage, name: str, mark: str) -> bool:
    return mark in _marks(_hints(type(stage))[name])


def _filled_in(config: Any, whole: Any) -> Any:
    """A value as the config has it, with what is no identity from the whole of it."""
    if isinstance(config, Mapping) and isinstance(whole, Mapping):
        return {**whole, **{key: _filled_in(value, whole.get(key)) for key, value in config.items()}}
    if isinstance(config, list) and isinstance(whole, list) and len(config) == len(whole):
        return [_filled_in(*pair) for pair in zip(config, whole, strict=True)]
    return config


def _identity(value: Any) -> Any:
    if isinstance(value, Frozen):
        return value.identity()
    return [_identity(each) for each in value] if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
