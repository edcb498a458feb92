"""Things by name: the package's own, imported when one is first asked for, and those that extensions add."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Generic, TypeVar

from tlm.machine.extensions import load_extensions

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes or objects of one sort by their names.

    Args:
        noun: what error messages call one of them.
        modules: for each of the package's own, the module that registers it when it is imported. A module may stand on a
            higher floor than the registry: it is named here, and not imported before its thing is needed.
    """

    def __init__(self, noun: str, modules: Mapping[str, str]) -> None:
        self.noun = noun
        self._modules = dict(modules)
        self._things: dict[str, T] = {}

    def register(self, name: str, thing: T) -> None:
        """Make `thing` known as `name`. Raises ValueError if the name is another's."""
        origin = _origin(thing)
        reserved = self._modules.get(name, origin[0]) != origin[0]
        if reserved or (name in self._things and _origin(self._things[name]) != origin):
            raise ValueError(f"there is another {self.noun} {name!r}")
        self._things[name] = thing

    def __getitem__(self, name: str) -> T:
        """The thing of that name. Raises ValueError that lists those known."""
        if name not in self._things and name in self._modules:
            import_module(self._modules[name])
        elif name not in self._things:
            load_extensions()
        if name not in self._things:
            known = (
                f"choose from {self.names()}" if self.names() else f"no {self.noun} is registered (see TLM_EXTENSIONS)"
            )
            raise ValueError(f"unknown {self.noun} {name!r}; {known}")
        return self._things[name]

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def names(self) -> list[str]:
        """Every name that can be asked for, extensions' included, in alphabetical order."""
        load_extensions()
        return sorted({*self._modules, *self._things})


def _origin(thing: object) -> tuple[str, str]:
    """Where something is defined: a module that is imported again registers the same thing again."""
    defined = thing if isinstance(thing, type) else type(thing)
    return defined.__module__, defined.__qualname__
