"""The space of a search: fields of a study and the values that each may take, as text.

log:1e-4:1e-2        a number, on a logarithmic scale
float:0:0.3          a number
int:4:16             a whole number; int:4:16:2 in steps of 2
logint:100:10000     a whole number, on a logarithmic scale
choice:adamw,muon    one of these, each written as for `--set`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from tlm.errors import UserError

if TYPE_CHECKING:
    from optuna import Trial

DIGITS = 3
"""Significant digits of a number that is drawn: what is printed is what was trained."""
SYNTAX = "Write log:LOW:HIGH, float:LOW:HIGH, int:LOW:HIGH, int:LOW:HIGH:STEP, logint:LOW:HIGH or choice:A,B,C."


class Dimension(Protocol):
    """The values of one field."""

    def draw(self, trial: Trial, field: str) -> Any:
        """The value that Optuna suggests to a trial."""
        ...

    def raw(self, value: Any) -> Any:
        """What Optuna calls a value, such that it is what is drawn; None if it is not in the space."""
        ...

    def extremes(self) -> Iterable[Any]:
        """Values that the study must accept if it is to accept all."""
        ...


@dataclass(frozen=True)
class Real:
    low: float
    high: float
    log: bool

    def draw(self, trial: Trial, field: str) -> float:
        return self._rounded(trial.suggest_float(field, self.low, self.high, log=self.log))

    def raw(self, value: Any) -> float | None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number and self._rounded(value) == value else None

    def extremes(self) -> Iterable[float]:
        return (self.low, self.high)

    def _rounded(self, value: float) -> float:
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Whole:
    low: int
    high: int
    log: bool = False
    step: int = 1

    def draw(self, trial: Trial, field: str) -> int:
        return trial.suggest_int(field, self.low, self.high, step=self.step, log=self.log)

    def raw(self, value: Any) -> int | None:
        inside = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        return int(value) if inside and (value - self.low) % self.step == 0 else None

    def extremes(self) -> Iterable[int]:
        return (self.low, self.low + (self.high - self.low) // self.step * self.step)


@dataclass(frozen=True)
class Choice:
    options: tuple[Any, ...]

    @property
    def texts(self) -> list[str]:
        return [as_text(option) for option in self.options]

    def draw(self, trial: Trial, field: str) -> Any:
        return self.options[self.texts.index(trial.suggest_categorical(field, self.texts))]

    def raw(self, value: Any) -> str | None:
        text = as_text(value)
        return text if text in self.texts else None

    def extremes(self) -> Iterable[Any]:
        return self.options


def parse(field: str, text: str) -> Dimension:
    """A dimension from its text. Raises UserError, naming the field, for text that is none."""
    kind, _, rest = text.partition(":")
    try:
        dimension = _choice(rest) if kind == "choice" else _numbers(kind, rest.split(":"))
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"over {field}: {text!r} is no space ({reason}).", SYNTAX) from error
    return dimension


def parse_over(text: str) -> tuple[str, str]:
    """(field, space) of `FIELD=SPACE`, as the command line has it. Raises UserError."""
    field, equals, space = text.partition("=")
    if not (field and equals and space):
        raise UserError(f"--over {text!r} is not FIELD=SPACE.", f"Example: --over finetune.epochs=int:4:16. {SYNTAX}")
    return field, space


class _OneLine(yaml.SafeDumper):
    """Line breaks and the like are escaped."""


def _escaped(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_OneLine.add_representer(str, _escaped)


def as_text(value: Any) -> str:
    """A value as `--set` reads it, on one line."""
    text = yaml.dump(value, Dumper=_OneLine, default_flow_style=True, width=1_000_000)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """`field=value` of each, as `--set` takes them."""
    return [f"{field}={as_text(value)}" for field, value in values.items()]


def _choice(text: str) -> Choice:
    options = yaml.safe_load(f"[{text}]")
    if not isinstance(options, list) or len(options) < 2:
        raise ValueError("a choice has two options or more")
    choice = Choice(tuple(options))
    if len(set(choice.texts)) < len(options):
        raise ValueError("an option stands twice")
    return choice


def _numbers(kind: str, given: list[str]) -> Dimension:
    most = {"log": 2, "float": 2, "logint": 2, "int": 3}.get(kind)
    if most is None:
        raise ValueError(f"unknown kind {kind!r}")
    if not 2 <= len(given) <= most:
        raise ValueError("LOW and HIGH are to be given")
    log = kind.startswith("log")
    dimension: Real | Whole
    if kind in ("int", "logint"):
        low, high, *step = map(_whole, given)
        dimension = Whole(low, high, log, *step)
        if dimension.step < 1:
            raise ValueError("STEP is to be 1 or more")
    else:
        dimension = Real(float(given[0]), float(given[1]), log)
    if not float("-inf") < dimension.low < dimension.high < float("inf"):
        raise ValueError("LOW is to be smaller than HIGH, both finite")
    if log and dimension.low <= 0:
        raise ValueError("LOW is to be above 0 on a logarithmic scale")
    return dimension


def _whole(text: str) -> int:
    number = Decimal(text)  # 1e4 is a whole number too
    if number != number.to_integral_value():
        raise ValueError(f"{text} is not a whole number")
    return int(number)
