"""The house rules that a reader relies on: flows → tasks → tlm, imports that only go down, and nothing ever unpickled."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tlm.machine.runtime import PACKAGE_PARENT

LAYERS = ("tlm", "tasks", "flows")
SOURCES = sorted(path for layer in LAYERS for path in (PACKAGE_PARENT / layer).rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE_PARENT)) for path in SOURCES]


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0] if not node.level else path.relative_to(PACKAGE_PARENT).parts[0]


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE_PARENT).parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_a_layer_imports_only_those_below_it(path: Path) -> None:
    above = LAYERS[LAYERS.index(layer(path)) + 1 :]
    assert not set(imported(path)) & set(above)


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

MODULES = {".".join(path.relative_to(PACKAGE_PARENT).with_suffix("").parts): path for path in SOURCES}


def room(module: str) -> str:
    return module.split(".")[1]


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules among `known` that a file imports, anywhere in it, by their full names; itself not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path} has a relative import: write it out"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & {*known}
            found |= submodules
            if len(submodules) < len(node.names):
                found |= {node.module, f"{node.module}.__init__"}
    return {name for name in found if name in known and known[name] != path}


def test_every_room_is_on_a_floor_and_few_modules_stand_outside_one() -> None:
    assert {room(name) for name in MODULES if name.startswith("tlm.")} == {"__init__", *(r for f in FLOORS for r in f)}
    assert len(list((PACKAGE_PARENT / "tlm").glob("*.py"))) <= 3


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("tlm.") and name != "tlm.__init__"])
def test_imports_only_go_down(module: str) -> None:
    level = {name: height for height, floor in enumerate(FLOORS) for name in floor}
    there = {room(name) for name in imported_modules(MODULES[module], MODULES) if name.startswith("tlm.")}
    up = {name for name in there - {room(module), "__init__"} if level[name] >= level[room(module)]}
    assert not up


@pytest.mark.parametrize("top", [*LAYERS, "benchmarks"])
def test_no_modules_import_each_other_in_a_circle(top: str) -> None:
    files = (PACKAGE_PARENT / top).rglob("*.py")
    known = {".".join(path.relative_to(PACKAGE_PARENT).with_suffix("").parts): path for path in files}
    TopologicalSorter({name: imported_modules(path, known) for name, path in known.items()}).prepare()


@pytest.mark.parametrize("path", [p for p in SOURCES if layer(p) == "tlm"], ids=[i for i in IDS if i[:4] == "tlm/"])
def test_the_library_imports_neither_prefect_nor_mlflow(path: Path) -> None:
    assert not set(imported(path)) & {"prefect", "mlflow"}


def test_the_folder_mlflow_holds_no_module_that_could_stand_in_for_the_package() -> None:
    """What runs have put there is not ours: a registered model comes with code, under mlflow/artifacts."""
    folder = PACKAGE_PARENT / "mlflow"
    made = folder / "artifacts"
    assert [path for path in folder.rglob("*.py") if not path.is_relative_to(made)] == []
    found = PathFinder.find_spec("mlflow", [str(PACKAGE_PARENT), *sys.path])
    assert found is not None and found.origin is not None and not Path(found.origin).is_relative_to(folder)


UNSAFE = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}


def unsafe_loads(tree: ast.AST) -> Iterator[str]:
    """Calls that could unpickle: torch.load at all, np.load without a literal allow_pickle=False."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("load", "read_pickle")
        ):
            owner = ast.unparse(node.func.value)
            safe = any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
            if node.func.attr == "read_pickle" or owner == "torch" or (owner in ("np", "numpy") and not safe):
                yield ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_nothing_is_ever_unpickled(path: Path) -> None:
    assert not set(imported(path)) & UNSAFE
    assert not list(unsafe_loads(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("code", ["torch.load(f)", "np.load(f)", "np.load(f, allow_pickle=True)", "pd.read_pickle(f)"])
def test_the_rule_against_unpickling_sees_what_it_should(code: str) -> None:
    assert list(unsafe_loads(ast.parse(code)))
