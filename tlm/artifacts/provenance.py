"""Who made an artifact: code commit, package versions, machine. Recorded beside it, never part of its identity."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tlm.machine.runtime import PACKAGE_PARENT

PACKAGES = ("tlm", "torch", "transformers", "tokenizers", "numpy", "pyarrow", "datasets", "scikit-learn")


@lru_cache(maxsize=1)
def code_version() -> dict[str, Any]:
    """Git commit of the code and whether the tree differs from it; both None outside a git checkout."""
    commit = _git("rev-parse", "HEAD")
    return {"git_commit": commit, "git_dirty": bool(_git("status", "--porcelain")) if commit else None}


@lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Python, operating system and the versions of `PACKAGES`; None for one that is not installed."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
    }


def provenance(**more: Any) -> dict[str, Any]:
    """What a record says of its making: code, environment, and `more` (device, threads)."""
    return {**code_version(), **environment(), **more}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    if not (PACKAGE_PARENT / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE_PARENT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
