"""Engines: what they refuse before any work, and what a step asks of a node."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import mini_study

from tasks import board
from tasks.engines import ENGINES, Engine, Ray, engine_of
from tlm.artifacts.bucket import Bucket
from tlm.artifacts.step import ArtifactRef
from tlm.errors import UserError
from tlm.machine.runtime import Runtime

REF = ArtifactRef(stage="pretrain", key="0" * 64, slug="one")
WHOLE = {"RAY_ADDRESS": "127.0.0.2:1", "PREFECT_API_URL": "http://127.0.0.1:1/api"}


def runtime(**changes: Any) -> Runtime:
    given = {"engine": "ray", "device": "cpu", "tracking_uri": "http://127.0.0.1:1", "home": "s3://bucket/tlm"}
    return Runtime.model_validate({**given, **changes})


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.engines.find_spec", lambda name: object())
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", [*WHOLE])
def test_ray_is_refused_without_a_variable_that_every_node_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(UserError, match=f"TLM_ENGINE=ray needs {name}"):
        Ray().check(mini_study(), runtime())


@pytest.mark.parametrize("uri", [None, "sqlite:////home/mlflow.db", "/home/mlruns", "file:///home/mlruns"])
def test_ray_is_refused_without_a_server_of_mlflow(uri: str | None) -> None:
    with pytest.raises(UserError, match="TLM_ENGINE=ray needs MLFLOW_TRACKING_URI"):
        Ray().check(mini_study(), runtime(tracking_uri=uri))


def test_ray_is_refused_where_its_packages_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.engines.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'tlm\[ray\]'"):
        Ray().check(mini_study(), runtime())


def test_ray_is_refused_where_each_node_would_choose_its_device() -> None:
    with pytest.raises(UserError, match="TLM_DEVICE=auto"):
        Ray().check(mini_study(), runtime(device="auto"))


@pytest.mark.parametrize(
    ("parts", "fields", "remedy"),
    [
        (["pretrain"], "pretrain.precision", "--set pretrain.precision=bfloat16"),
        (["finetune"], "finetune.precision", "--set finetune.precision=bfloat16"),
        (
            ["pretrain", "finetune"],
            "pretrain.precision and finetune.precision",
            "--set pretrain.precision=bfloat16 --set finetune.precision=bfloat16",
        ),
    ],
)
def test_ray_is_refused_where_each_node_would_choose_its_precision_naming_all_that_is_to_be_chosen(
    parts: list[str], fields: str, remedy: str
) -> None:
    study = mini_study(**{f"{part}__precision": "auto" for part in parts})
    with pytest.raises(UserError) as raised:
        Ray().check(study, runtime())
    assert raised.value.problem.startswith(f"TLM_ENGINE=ray with {fields} set to auto")
    assert raised.value.remedy == f"Choose: {remedy} (or float32)."


@pytest.mark.parametrize("address", ["foo", "host:notaport", "auto", "local", "ray://host:10001"])
def test_ray_is_refused_where_its_address_is_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=f"^RAY_ADDRESS={address} is not host:port. Set it"):
        Ray().check(mini_study(), runtime())


def test_a_home_that_cannot_serve_is_refused_before_any_node_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    nodes: Any = ModuleType("tasks.nodes")
    nodes.connect, nodes.check_nodes = lambda: asked.append("connect"), lambda runtime: asked.append("nodes")
    monkeypatch.setitem(sys.modules, "tasks.nodes", nodes)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="TLM_HOME=.* is not writable"):
        Ray().check(mini_study(), runtime(home=str(tmp_path / "file" / "home")))
    careless = staticmethod(lambda path, content: True)
    with monkeypatch.context() as patched, pytest.raises(UserError, match="does not honour conditional writes"):
        patched.setattr(Bucket, "create", careless)
        Ray().check(mini_study(), runtime(home="memory://home"))
    assert asked == []
    Ray().check(mini_study(), runtime(home="memory://home"))
    assert asked == ["connect", "nodes"]


def test_an_engine_that_says_nothing_of_its_own_suits_this_machine() -> None:
    here = Runtime(engine="threads", workers=3)
    engine = engine_of(here)
    engine.check(mini_study(pretrain__precision="auto"), here)
    assert engine.at_once(here) == 3 and engine.board() is board.current()
    assert all(isinstance(ENGINES[name], Engine) for name in ("threads", "ray"))


class Shown:
    """A board that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def open(self, ref: ArtifactRef) -> Any:
        self.told.append(("open",))
        return lambda done, total: self.told.append((done, total))

    def note(self, ref: ArtifactRef, note: str) -> None:
        self.told.append((note,))

    def close(self, ref: ArtifactRef, end: board.End) -> None:
        self.told.append((end,))

    def say(self, text: str) -> None: ...


@pytest.mark.skipif(find_spec("prefect_ray") is None, reason="Ray is not installed: pip install 'tlm[ray]'")
def test_a_step_that_was_begun_again_on_another_node_goes_on_in_its_bar() -> None:
    from tasks.nodes import Showing

    shown = Shown()
    show = Showing(shown)
    show("progress", REF, 1, 10)  # of a board that was opened before anybody looked
    for message in (("open", REF), ("progress", REF, 3, 10), ("open", REF), ("progress", REF, 5, 10)):
        show(*message)
    show("note", REF, "a note")
    show("close", REF, "done")
    show("close", REF, "failed")
    assert shown.told == [("open",), (3, 10), (5, 10), ("a note",), ("done",)]
