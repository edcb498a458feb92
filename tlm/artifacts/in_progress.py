"""Studies that were begun and have not ended: what they have made is needed, however long ago it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tlm.artifacts.fingerprint import SHORT
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.machine.files import DAMAGE

FOLDER = ".unfinished"
NOTE_BYTES = 16_000_000
"""The largest note that is read; one of 100,000 steps has 7 MB."""


@dataclass(frozen=True)
class Unfinished:
    """A study that has no report yet."""

    name: str
    begun: datetime
    """When it was last begun."""
    keys: frozenset[str]
    """The keys of all its steps, whether their artifacts are made or not."""
    place: str
    """The path of its note in the store."""


def begin(store: ArtifactStore, study: str, steps: Sequence[Step]) -> None:
    """Note that a study is under way: its name, and its steps, of which the last is its report."""
    note = {
        "study": study,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "keys": sorted(step.key for step in steps),
    }
    store.shelf.write(_place(store, steps), json.dumps(note).encode())


def end(store: ArtifactStore, steps: Sequence[Step]) -> None:
    """Note that a study has ended: from now on its report says what it needs."""
    forget(store, _place(store, steps))


def forget(store: ArtifactStore, place: str) -> None:
    """Remove a study's note: what it has made is kept no longer for its sake."""
    store.shelf.remove_file(place)


def unfinished(store: ArtifactStore) -> Iterator[Unfinished]:
    """Every study that was begun and has not ended. A note that was cut short by a crash, or is none, is passed over.

    Raises:
        OSError: if it may be whole and cannot be read: what it keeps is not known.
    """
    folder = f"{store.root}/{FOLDER}"
    try:
        names = sorted(store.shelf.names(folder))
    except OSError as error:
        if error.errno in DAMAGE:
            return
        raise
    for place in (f"{folder}/{name}" for name in names if name.endswith(".json")):
        try:
            note = json.loads(store.shelf.read(place, NOTE_BYTES))
            yield Unfinished(note["study"], datetime.fromisoformat(note["begun"]), frozenset(note["keys"]), place)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        except OSError as error:
            if error.errno not in DAMAGE:
                raise


def _place(store: ArtifactStore, steps: Sequence[Step]) -> str:
    return f"{store.root}/{FOLDER}/{steps[-1].key[:SHORT]}.json"
