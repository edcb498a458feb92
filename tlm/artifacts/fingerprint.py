"""Step identity: canonical JSON and SHA-256 keys.

A key is made of what defines a result and of nothing that merely ran it: the stage's name and VERSION, its literal
configuration, and the keys of its inputs. Paths, devices, worker counts and the git commit never enter.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

SHORT = 12
"""Characters of a key shown in folder names and tables."""


def canonical_json(value: Any) -> str:
    """Return the one JSON text for `value`: sorted keys, no spaces, ASCII.

    Raises:
        TypeError: for anything whose JSON form is not unique (sets, objects, non-string keys, NaN, infinities).
    """
    _check(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def step_key(stage: str, version: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """SHA-256 (hex, 64 characters) of a step: its stage, VERSION, config, and input name → input step key."""
    identity = {"stage": stage, "version": version, "config": dict(config), "inputs": dict(inputs)}
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def file_digest(file: str | Path | BinaryIO) -> str:
    """SHA-256 (hex) of a file's bytes, or of what is left to read of an open one."""
    if isinstance(file, str | Path):
        with open(file, "rb") as handle:
            return file_digest(handle)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _check(value: Any, place: str) -> None:
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{place}: {value} has no canonical JSON")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place}: key {key!r} is not a string")
            _check(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _check(item, f"{place}[{position}]")
    else:
        raise TypeError(f"{place}: {type(value).__name__} has no canonical JSON")
