"""Modules from outside the package that add to its registries: model families, objectives, stages, task runners, ….

The user names them, in the environment (`TLM_EXTENSIONS=my_models,my_lab.objectives`) or as an installed package's entry
points of the group `tlm.extensions`. They are imported the first time a name is asked for that the package does not know,
in this process and, since a child inherits the environment, in every process that trains.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module

from tlm.errors import UserError

VARIABLE = "TLM_EXTENSIONS"
GROUP = "tlm.extensions"


@cache
def load_extensions() -> tuple[str, ...]:
    """Import every extension, once in a process, and return the modules' names.

    Raises:
        UserError: if a name is not that of a module, or it cannot be imported.
    """
    from importlib.metadata import entry_points

    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    modules = dict.fromkeys(named, VARIABLE)
    for entry in entry_points(group=GROUP):
        modules.setdefault(entry.module, f"the entry point {entry.name} of {GROUP}")
    for module, place in modules.items():
        _import(module, place)
    return tuple(modules)


def _import(module: str, place: str) -> None:
    if not all(part.isidentifier() for part in module.split(".")):
        raise UserError(f"{place} names {module!r}, which is no module.", "Give names as in `import my_lab.models`.")
    try:
        import_module(module)
    except ImportError as error:
        raise UserError(
            f"{place} names the module {module}, which cannot be imported: {error}.",
            "Install it, put its folder on PYTHONPATH, or take it off the list.",
        ) from error
    except Exception as error:
        raise UserError(
            f"{place} names the module {module}, which fails: {type(error).__name__}: {error}.",
            "Mend it (--debug shows where it fails), or take it off the list.",
        ) from error
