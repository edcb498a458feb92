"""A study from a name or a YAML file, with single fields overridden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from flows.yaml_text import RefusedText, read_yaml, read_yaml_file
from tlm.errors import UserError
from tlm.study.adapt import reference_compat, with_limit
from tlm.study.config import StudyConfig
from tlm.study.recipes import with_recipe


def load_study(
    name_or_file: str,
    overrides: list[str] | None = None,
    *,
    reference: bool = False,
    scale: str | None = None,
    origin: str | None = None,
    limit_steps: int | None = None,
) -> StudyConfig:
    """Return a named study, or the one in a YAML file, with `field=value` overrides applied.

    Args:
        overrides: e.g. "pretrain.epochs=5", "tasks.0.train_per_label=50", "corpus.sizes=[0, 1000]"; values are YAML.
        reference: apply the reference code's habits (`tlm.study.adapt.reference_compat`).
        scale: of a named study that exists at several (`flows.studies.scales`).
        origin: where a named study's sources are read, "local" or "hub"; default: what its scale says.
        limit_steps: stop every training after so many steps (a dry run; its artifacts are its own).

    Raises:
        UserError: unknown study, unreadable file, or a field that is unknown or has a wrong value, naming it.
    """
    study = Draft.read(name_or_file, scale=scale, origin=origin).study(overrides or ())
    study = reference_compat(study) if reference else study
    return study if limit_steps is None else with_limit(study, limit_steps)


@dataclass(frozen=True)
class Draft:
    """A study as it was written, read once: a tree of its fields, and where it stands, for errors."""

    place: str
    tree: dict[str, Any]

    @classmethod
    def read(cls, name_or_file: str, *, scale: str | None = None, origin: str | None = None) -> Draft:
        """As `load_study`, which also says what it raises."""
        return cls(name_or_file, _tree(name_or_file, scale, origin))

    def study(self, overrides: Iterable[str] = ()) -> StudyConfig:
        """The study with these overrides. Raises UserError, as `load_study` does."""
        study = _validate(self.tree, self.place)
        overrides = list(overrides)
        if not overrides:
            return study
        tree = _with_defaults(self.tree, study)
        for override in overrides:
            field, _, name = override.partition("=")
            if field == "recipe":
                tree = _with_recipe(tree, name)
            else:
                _override(tree, override)
        return _validate(tree, self.place)


def to_yaml(study: StudyConfig) -> str:
    """A study file with every field."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, width=110, allow_unicode=True)


def _tree(name_or_file: str, scale: str | None, origin: str | None) -> dict[str, Any]:
    from flows.studies import STUDIES

    if name_or_file in STUDIES:
        return STUDIES[name_or_file](scale, origin).model_dump(mode="json")
    if scale or origin:
        raise UserError(f"{name_or_file} is no named study: it has no --scale or --origin.", "Change its own fields.")
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"Unknown study {name_or_file!r}.", f"Choose from {sorted(STUDIES)}, or give a .yaml file.")
    tree = read_yaml_file(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path} does not hold a study (a mapping of fields).", "`tlm show demo` prints one.")
    return tree


def _validate(tree: dict[str, Any], place: str) -> StudyConfig:
    try:
        return StudyConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, tree, place), "`tlm show demo` prints a valid study.") from error


def _with_defaults(tree: dict[str, Any], study: StudyConfig) -> dict[str, Any]:
    """The tree with the fields a file leaves out, so that they can be overridden; a variant stays the short form it is."""
    full = study.model_dump(mode="json")
    pairs = zip(tree["architectures"], full["architectures"], strict=True)
    full["architectures"] = [
        {**deepcopy(given), "options": whole["options"]} if "variant" in given else whole for given, whole in pairs
    ]
    for training, config in (("pretrain", study.pretrain), ("finetune", study.finetune)):
        # Its fields at their defaults would be unknown to an optimizer of another kind.
        optimizer = config.optimizer
        full[training]["optimizer"] = {"kind": optimizer.kind} | optimizer.model_dump(
            mode="json", exclude_defaults=True
        )
    return full


def _with_recipe(tree: dict[str, Any], name: str) -> dict[str, Any]:
    try:
        return with_recipe(tree, name, wins=True)
    except ValueError as error:
        raise UserError(f"--set recipe={name}: {error}.", "Example: --set recipe=modern") from None


def parse_set(override: str) -> tuple[str, Any]:
    """(field, value) of `field=value`, where the value is YAML. Raises UserError."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {override!r} is not field=value.", "Example: --set pretrain.epochs=5")
    try:
        return path, read_yaml(text)
    except RefusedText as error:
        raise UserError(f"--set {path}: {error}.", "Example: --set pretrain.epochs=5") from error
    except yaml.YAMLError as error:
        raise UserError(
            f"--set {override!r}: {text!r} is not a YAML value.", "Example: --set pretrain.epochs=5"
        ) from error


def _override(tree: Any, override: str) -> None:
    path, value = parse_set(override)
    parts = path.split(".")
    place = tree
    for part in parts[:-1]:
        if part == "options" and isinstance(place, dict):  # a variant, or what is BERT's own, does not spell them out
            place.setdefault(part, {})
        below = _child(place, part, path)
        if below is None and isinstance(place, dict):  # a field that is left out: what it may hold is validated later
            below = place[part] = {"kind": None}
        place = below
    if isinstance(place, list):
        place[_index(place, parts[-1], path)] = value
        return
    # What a variant, another kind of thing or an empty mapping may be given is not spelled out in what stands there.
    open_ended = isinstance(place, dict) and (
        not place or place.keys() & {"variant", "kind"} or parts[-2:-1] == ["options"]
    )
    if not open_ended:
        _child(place, parts[-1], path)
    place[parts[-1]] = value
    _resolve_alternatives(place, parts[-1], value)


def value_at(tree: dict[str, Any], path: str) -> Any:
    """What a study's tree, every field in it, has at a dotted path; None where it ends before. UserError as for --set."""
    place: Any = tree
    for part in path.split("."):
        if place is None:
            return None
        place = _child(place, part, path)
    return place


def _resolve_alternatives(place: dict[str, Any], field: str, value: Any) -> None:
    """Setting one of two fields that exclude each other unsets the other."""
    for one, other in (("epochs", "steps"), ("count", "share")):
        if value is not None and field in (one, other) and one in place and other in place:
            place[other if field == one else one] = None


def _child(place: Any, part: str, path: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, path)]
    if not isinstance(place, dict) or part not in place:
        known = sorted(place) if isinstance(place, dict) else "no fields below it"
        raise UserError(f"--set {path}: unknown field {part!r}.", f"Known here: {known}.")
    return place[part]


def _index(place: list[Any], part: str, path: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in place]
    if part in names:
        return names.index(part)
    if part in map(str, range(len(place))):
        return int(part)
    raise UserError(f"--set {path}: no element {part!r}.", f"There are {len(place)}: {[n for n in names if n] or ''}")


def explain(error: ValidationError, tree: Any, place: str) -> str:
    """One line for all of pydantic's complaints: field (as --set calls it), what is wrong, the value given."""
    lines = []
    problems = error.errors()
    for problem in problems:
        own = problem["loc"]
        if problem["type"] == "too_short" and any(own == p["loc"][: len(own)] for p in problems if p is not problem):
            continue  # a list whose elements are wrong is called empty, too
        field = ".".join(_named(problem["loc"], tree))
        given = problem.get("input")
        shown = f" (got {given!r})" if not isinstance(given, dict | list) else ""
        message = problem["msg"].removeprefix("Value error, ").replace("tuple", "list").replace("Tuple", "List")
        if problem["type"] == "extra_forbidden":
            message, shown = "unknown field", ""
        lines.append(f"{field}: {message}{shown}" if field else message)
    return f"{place}: " + "; ".join(lines) + "."


def _named(location: tuple[str | int, ...], tree: Any) -> Iterator[str]:
    """The parts of a place in the tree: an element of a list by its name, if it has one."""
    for position, part in enumerate(location):
        try:
            tree = tree[part]
        except (LookupError, TypeError):
            if position == len(location) - 1:  # before, it is the kind of a thing, and stands in no file
                yield str(part)
            continue
        named = isinstance(part, int) and isinstance(tree, dict) and isinstance(tree.get("name"), str)
        yield tree["name"] if named else str(part)
