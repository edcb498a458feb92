"""The nodes of a Ray cluster: the way to them, whether they are fit to work together, and what they tell of their steps."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from prefect_ray import RayTaskRunner
from ray._private.services import resolve_ip_for_localhost
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tasks import board
from tasks.answering import check_ray, ray_address
from tlm.artifacts.probe import probe
from tlm.artifacts.provenance import code_version, environment
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.repeating import repeated
from tlm.machine.runtime import Runtime

CHECK_SECONDS = 300.0
"""How long the nodes have to say what they are; each imports torch for it."""
POLL_SECONDS = 0.5
TOLD_EVERY_SECONDS = 0.5
MAILBOX = "board"


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names. Raises UserError if it does not answer, within seconds."""
    if ray.is_initialized():
        return
    host, port = ray_address()
    check_ray(resolve_ip_for_localhost(host), port)
    address = os.environ["RAY_ADDRESS"]
    # On loopback Ray would take this machine's address for the driver's node, where none of the cluster's is.
    own: dict[str, Any] = {"_node_ip_address": host} if host.startswith("127.") else {}
    try:
        ray.init(address, namespace=f"tlm-{uuid.uuid4().hex}", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"RAY_ADDRESS={address}: no cluster can be joined there ({reason}).", "Is its head up?"
        ) from error


def living() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def cpus() -> list[int]:
    """The CPUs of each node."""
    return [int(node["Resources"].get("CPU", 0)) for node in living()] or [0]


# --- whether they are fit ---


def report(artifacts: str, place: str) -> dict[str, Any]:
    """What a node says of itself: its code, its packages, and whether it sees the probe at `place` in the store."""
    try:
        seen = ArtifactStore(artifacts).shelf.read(place, 100) == place.encode()[-100:]
        why = "it is empty there"
    except (OSError, UserError) as error:
        seen, why = False, str(error)
    return {"commit": code_version()["git_commit"], **environment(), "home": "" if seen else why}


def check_nodes(runtime: Runtime) -> None:
    """Raise UserError, naming the node, unless all have this commit and environment and this home, and one the device.

    What one of them is asked takes a minute on a busy node: what the driver knows by itself comes first.
    """
    if runtime.device == "cuda" and not ray.cluster_resources().get("GPU"):
        raise UserError("TLM_DEVICE=cuda, and no node has a GPU.", "Add one, or set TLM_DEVICE=cpu.")
    store = ArtifactStore(runtime.artifacts)
    with probe(store.shelf) as place:
        store.shelf.write(place, place.encode()[-100:])
        said = {node["NodeManagerAddress"]: _ask(node, runtime.artifacts, place) for node in living()}
        answers = {name: _answer(name, reference) for name, reference in said.items()}
    own = {"commit": code_version()["git_commit"], **environment()}
    for name, answer in answers.items():
        if answer["home"]:
            raise UserError(
                f"TLM_HOME={runtime.home} is not the same place on node {name}: {answer['home']}.",
                "Use an object store (s3://bucket/folder) or a file system that all nodes mount.",
            )
        for what in ("commit", "python", "system"):
            _compare(name, what, answer[what], own[what])
        for package, version in own["packages"].items():
            _compare(name, package, answer["packages"].get(package), version)


def _ask(node: dict[str, Any], artifacts: str, place: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=there, max_retries=0)(report).remote(artifacts, place)


def _answer(name: str, reference: Any) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = ray.get(reference, timeout=CHECK_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise UserError(f"Node {name} does not answer after {CHECK_SECONDS:.0f} s.", "Look at `ray status`.") from error
    except Exception as error:  # no package, an import that fails, a node that has just gone
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(
            f"Node {name} cannot run tlm: {reason[0]}.", "Give it the same checkout and packages."
        ) from error
    return answer


def _compare(node: str, what: str, there: object, here: object) -> None:
    if there != here:
        raise UserError(
            f"Node {node} has another {what}: {there}, and {here} is here.",
            "Give all nodes the same checkout and packages.",
        )


# --- what they tell of their steps ---


class Mailbox:
    """An actor that holds what nodes tell until the driver takes it."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def put(self, *message: Any) -> None:
        self.told.append(message)

    def take(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told


class ToldBoard(board.LogBoard):
    """Of a step that runs on a node: in the node's log, as ever, and told to the driver."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def open(self, ref: ArtifactRef) -> Callable[[int, int], None]:
        logged = super().open(ref)
        self.mailbox.put.remote("open", ref)
        last = 0.0

        def tell(done: int, total: int) -> None:
            nonlocal last
            logged(done, total)
            if time.monotonic() - last >= TOLD_EVERY_SECONDS or done == total:
                last = time.monotonic()
                self.mailbox.put.remote("progress", ref, done, total)

        return tell

    def note(self, ref: ArtifactRef, note: str) -> None:
        super().note(ref, note)
        self.mailbox.put.remote("note", ref, note)

    def close(self, ref: ArtifactRef, end: board.End) -> None:
        self.mailbox.put.remote("close", ref, end)


def told_board() -> board.Board:
    """The board of a step in this process: the driver's, if there is one to tell."""
    with suppress(ValueError):
        return ToldBoard(ray.get_actor(MAILBOX))
    return board.current()


class Showing:
    """Shows on the driver's board what nodes tell. A step that was begun again, on another node, goes on in its place."""

    def __init__(self, shown: board.Board) -> None:
        self.shown = shown
        self.progress: dict[str, Callable[[int, int], None]] = {}

    def __call__(self, kind: str, ref: ArtifactRef, *rest: Any) -> None:
        match kind, rest:
            case "open", _ if ref.key not in self.progress:
                self.progress[ref.key] = self.shown.open(ref)
            case "progress", (done, total) if ref.key in self.progress:
                self.progress[ref.key](done, total)
            case "note", (note,):
                self.shown.note(ref, note)
            case "close", (end,) if self.progress.pop(ref.key, None):
                self.shown.close(ref, end)


@contextmanager
def telling(shown: board.Board) -> Iterator[None]:
    """Inside, `shown` is told what nodes tell of their steps; the log is not, which they write themselves."""
    mailbox = ray.remote(num_cpus=0)(Mailbox).options(name=MAILBOX).remote()
    showing = Showing(shown)

    def take() -> None:
        with suppress(ray.exceptions.RayError):
            for message in ray.get(mailbox.take.remote()):
                if not isinstance(shown, board.LogBoard):
                    showing(*message)

    try:
        with repeated(take, POLL_SECONDS, "board"):
            yield
    finally:
        take()
        ray.kill(mailbox)


class ClusterRunner(RayTaskRunner[Any]):  # type: ignore[misc]
    """Prefect's runner on the cluster that RAY_ADDRESS names. Prefect enters one in each task, too."""

    def __enter__(self) -> Any:
        connect()
        return super().__enter__()
