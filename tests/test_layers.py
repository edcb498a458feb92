"""The house rules that a reader relies on: flows → tasks → tlm, imports that only go down, and nothing ever unpickled."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tlm.machine.runtime import PACKAGE_PARENT

LAYERS = ("tlm", "tasks", "flows")
SOURCES = {layer: sorted((PACKAGE_PARENT / layer).rglob("*.py")) for layer in LAYERS}


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


@cache
def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports of a file, anywhere in it."""
    return [node for node in nodes(path) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    found: set[str] = set()
    for node in imports(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        else:
            own = path.relative_to(PACKAGE_PARENT).parts[0]
            found.add((node.module or "").partition(".")[0] if not node.level else own)
    return found


def importers(paths: list[Path], packages: set[str]) -> dict[str, set[str]]:
    """The files that import one of these packages, each with those that it imports."""
    return {str(path): found for path in paths if (found := packages & imported(path))}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_those_below_it(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    assert SOURCES[layer] and not importers(SOURCES[layer], {*above})


FLOORS = (
    ("errors",),
    ("machine", "statistics"),
    ("study",),
    ("artifacts",),
    ("data",),
    ("modeling",),
    ("training",),
    ("evaluation",),
    ("inference",),
    ("report",),
    ("results",),
    ("stages",),
    ("planning",),
    ("execution",),
    ("cost",),
    ("tuning",),
    ("sequential",),
)
"""The rooms of tlm/ from the ground up. A room imports from those below it, wherever in a file the import stands."""


def modules(layer: str) -> dict[str, Path]:
    """The files of a layer by their modules' full names."""
    files = (PACKAGE_PARENT / layer).rglob("*.py")
    return {".".join(path.relative_to(PACKAGE_PARENT).with_suffix("").parts): path for path in files}


LIBRARY = modules("tlm")


def room(module: str) -> str:
    return module.split(".")[1]


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules among `known` that a file imports, by their full names; itself not."""
    found: set[str] = set()
    for node in imports(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.module and not node.level, f"{path} has a relative import: write it out"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & {*known}
            found |= submodules
            if len(submodules) < len(node.names):
                found |= {node.module, f"{node.module}.__init__"}
    return {name for name in found if name in known and known[name] != path}


def test_every_room_is_on_a_floor_and_few_modules_stand_outside_one() -> None:
    assert {room(name) for name in LIBRARY} == {"__init__", *(r for floor in FLOORS for r in floor)}
    assert len(list((PACKAGE_PARENT / "tlm").glob("*.py"))) <= 3


@pytest.mark.parametrize("level", range(len(FLOORS)), ids=["+".join(floor) for floor in FLOORS])
def test_imports_only_go_down(level: int) -> None:
    below = {"__init__", *(room for floor in FLOORS[:level] for room in floor)}
    for importer, path in LIBRARY.items():
        if room(importer) in FLOORS[level]:
            up = {name for name in imported_modules(path, LIBRARY) if room(name) not in below | {room(importer)}}
            assert not up, importer


@pytest.mark.parametrize("top", [*LAYERS, "benchmarks"])
def test_no_modules_import_each_other_in_a_circle(top: str) -> None:
    known = modules(top)
    TopologicalSorter({name: imported_modules(path, known) for name, path in known.items()}).prepare()


def test_the_library_imports_neither_prefect_nor_mlflow() -> None:
    assert not importers(SOURCES["tlm"], {"prefect", "mlflow"})


def test_the_folder_mlflow_holds_no_module_that_could_stand_in_for_the_package() -> None:
    """What runs have put there is not ours: a registered model comes with code, under mlflow/artifacts."""
    folder = PACKAGE_PARENT / "mlflow"
    made = folder / "artifacts"
    assert [path for path in folder.rglob("*.py") if not path.is_relative_to(made)] == []
    found = PathFinder.find_spec("mlflow", [str(PACKAGE_PARENT), *sys.path])
    assert found is not None and found.origin is not None and not Path(found.origin).is_relative_to(folder)


UNSAFE = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}


def unsafe_loads(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Calls that could unpickle: torch.load at all, np.load without a literal allow_pickle=False."""
    for node in nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("load", "read_pickle")
        ):
            owner = ast.unparse(node.func.value)
            safe = any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
            if node.func.attr == "read_pickle" or owner == "torch" or (owner in ("np", "numpy") and not safe):
                yield ast.unparse(node)


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_is_ever_unpickled(layer: str) -> None:
    assert not importers(SOURCES[layer], UNSAFE)
    assert not {str(path): calls for path in SOURCES[layer] if (calls := [*unsafe_loads(nodes(path))])}


@pytest.mark.parametrize("code", ["torch.load(f)", "np.load(f)", "np.load(f, allow_pickle=True)", "pd.read_pickle(f)"])
def test_the_rule_against_unpickling_sees_what_it_should(code: str) -> None:
    assert list(unsafe_loads(ast.walk(ast.parse(code))))
