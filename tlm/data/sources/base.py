"""What every reader shares: the result, confined paths, digests, and checks whose errors say where and what to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.data.sources.values import RepeatedKey, known_names, not_utf8, parse_json
from tlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[int, int], None]

LOCAL_WAY_OUT = (
    "Set TLM_DATA_ROOT to the folder that holds the data, or read the Hub (--origin hub; in a study file, origin: hub)."
)
COLUMNS_WAY_OUT = "Set text_column and label_column to columns that exist."


@dataclass(frozen=True)
class Loaded:
    """A source's items, read while they are gone through: no more of them need be in memory than one part.

    `parts`: to be gone through once; tables of item_id (string, unique), text (string), split (string: train | test | all)
    and, for a labelled source, label (int32, an index into `label_names`). What is wrong with the data is a UserError on
    the way. `facts`: counts and resolved revisions worth recording, complete after the last part; not identity.
    """

    parts: Iterable[pa.Table]
    label_names: tuple[str, ...] | None
    facts: dict[str, int | str] = field(default_factory=dict)

    @cached_property
    def table(self) -> pa.Table:
        """All parts together, for a source that is known to be small. It goes through them."""
        import pyarrow as pa

        return pa.concat_tables(self.parts)


def confine(data_root: str, path: str) -> Path:
    """The absolute place of a configured `path`, which must lie under `data_root` once symbolic links are resolved.

    Raises:
        UserError: no data root, a path that leaves it, or one that cannot be followed (a link to itself, a name too long).
    """
    if not data_root:
        raise UserError("No data root is set.", LOCAL_WAY_OUT)
    root = Path(data_root).resolve()
    try:
        target = (root / path).resolve()
        target.exists()
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"The path {path!r} is not one ({why}).", "Give a path relative to the data root.") from error
    if Path(path).is_absolute() or not target.is_relative_to(root):
        raise UserError(
            f"The path {path!r} leads outside the data root {root}.",
            "Give a path relative to the data root, and put the data there (a link that leaves it does not count).",
        )
    return target


def require(data_root: str, files: Mapping[str, str], remedy: str = LOCAL_WAY_OUT) -> dict[str, Path]:
    """The place of each role's file; all of them must exist.

    Raises:
        UserError: names every missing file at once, the data root and the remedy.
    """
    places = {role: confine(data_root, path) for role, path in files.items()}
    missing = [files[role] for role, place in places.items() if not place.is_file()]
    if missing:
        raise UserError(f"Missing under the data root {Path(data_root).resolve()}: {', '.join(missing)}.", remedy)
    return places


def list_files(data_root: str, folder: str, suffixes: Sequence[str], remedy: str = LOCAL_WAY_OUT) -> list[Path]:
    """The files of a folder (not of its sub-folders) with one of `suffixes`, by name; never an empty list."""
    place = confine(data_root, folder)
    read, _ = _sorted_out(place, suffixes)
    if not read:
        wanted = " or ".join(f"*{suffix}" for suffix in suffixes)
        raise UserError(f"Missing under the data root {Path(data_root).resolve()}: {folder}/{wanted}.", remedy)
    return [confine(data_root, str(Path(folder) / name)) for name in read]


def passed_over(data_root: str, folder: str, suffixes: Sequence[str]) -> list[str]:
    """What else is in a folder of which `list_files` reads the files with these suffixes; a sub-folder ends in a slash."""
    place = confine(data_root, folder)
    return [f"{name}/" if (place / name).is_dir() else name for name in _sorted_out(place, suffixes)[1]]


def _sorted_out(place: Path, suffixes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names in a folder that are read, and those that are not: other suffixes, no plain files, a . or _ in front."""
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    fitting = (name for name in names if Path(name).suffix.lower() in suffixes and not name.startswith((".", "_")))
    read = [name for name in fitting if (place / name).is_file()]
    return read, [name for name in names if name not in set(read)]


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes; remembered within the process while its size and time of change stay the same."""
    try:
        stat = path.stat()
        return _sha256(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.", "Check its permissions.") from error


@lru_cache(maxsize=1024)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(places: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of each file by its role: where the file lies is not identity."""
    return {role: sha256_file(place) for role, place in sorted(places.items())}


def shown(data_root: str, place: Path) -> str:
    """A file's name for a message: relative to the data root."""
    try:
        return place.relative_to(Path(data_root).resolve()).as_posix()
    except ValueError:
        return str(place)


def read_json(place: Path, name: str) -> Any:
    """A whole JSON file. Raises UserError with file and line if it is not JSON, or has a key twice."""
    try:
        return parse_json(place.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{name}, line {error.lineno}: not valid JSON ({error.msg}).", "Mend or replace it.") from error
    except UnicodeDecodeError as error:
        raise not_utf8(place, name) from error
    except RepeatedKey as error:
        raise UserError(f"{name}: {error}.", "Give each its own name.") from None
    except ValueError as error:
        raise UserError(f"{name}: not valid JSON ({error}).", "Mend or replace it.") from None


def read_label_names(place: Path, name: str) -> tuple[str, ...]:
    """A labels.json: a list of distinct names, at the index of their label."""
    names = read_json(place, name)
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(f"{name}: expected a JSON list of label names.", 'For example ["World", "Sports"].')
    return known_names(names, name)


def require_columns(wanted: Iterable[str], existing: Iterable[str], where: str, remedy: str = COLUMNS_WAY_OUT) -> None:
    """Raises UserError if two columns have one name, or a wanted one does not exist (naming those that do)."""
    columns = list(existing)
    if len(set(columns)) < len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise UserError(
            f"{where} has two columns named {', '.join(map(repr, twice))}.", "Give each column a name of its own."
        )
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise UserError(
            f"{where} has no column {', '.join(repr(m) for m in missing)}; it has {', '.join(map(repr, columns))}.",
            remedy,
        )
