"""The embedded corpus: prose from the docstrings of installed libraries, labelled by library. Needs no download.

Files are parsed with `ast`, never imported. What is read follows from the installed versions alone: not from where they
are installed, in what order, or from compiled files.
"""

from __future__ import annotations

import ast
import gc
import importlib.machinery
import importlib.metadata
import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tlm.data.sources.base import Loaded, Progress
from tlm.data.sources.docstring_text import ALIASES, Mask, fold, is_task, paragraphs
from tlm.errors import UserError

if TYPE_CHECKING:
    from tlm.study.sources import DocstringsSource

# Bump when the same installed files would give other paragraphs: it is part of identity.
VERSION = 1

# Folders that document something else: test suites, and copies of other libraries.
SKIPPED_FOLDERS = frozenset(
    ("__pycache__", "test", "tests", "testing", "_testing", "vendor", "_vendor", "vendored", "_vendored")
) | frozenset(("extern", "externals", "third_party"))
_REMEDY = "Install it, or leave it out of `libraries`."
_DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Paragraph(NamedTuple):
    """One paragraph: `item_id` is library:path:qualified.name:index, `text` is unmasked."""

    item_id: str
    text: str
    library: str


def identity(source: DocstringsSource, data_root: str) -> dict[str, Any]:
    """The installed version of each library's distributions (library order is no part of it).

    Raises:
        UserError: a library is not installed, or belongs to no distribution (such as the standard library).
    """
    locate(source.libraries)
    return {
        "kind": "docstrings",
        "reader": VERSION,
        "part": source.part,
        "min_words": source.min_words,
        "libraries": {library: _versions(library) for library in sorted(set(source.libraries))},
    }


def count_hint(source: DocstringsSource, data_root: str) -> int | None:
    """Not known without reading."""
    return None


def read(source: DocstringsSource, data_root: str, progress: Progress | None = None) -> Loaded:
    """Paragraphs of `source.part`, one pool. Task: labelled and masked; corpus: unlabelled, as written.

    A paragraph (up to case, digits and punctuation) occurs once; one found in several libraries has no certain label
    and is dropped, from both parts. The parts share no paragraph, whatever the library lists of the two sources.

    Raises:
        UserError: as `identity`; or nothing to read.
    """
    from tlm.data.sources.table import loaded, part, rows_of

    names = sorted(set(source.libraries))
    kept, facts = scan(source.libraries, source.min_words, progress)
    kept = [p for p in kept if is_task(p.text) == (source.part == "task")]
    if source.part == "corpus":
        table = part("all", [p.text for p in kept], rows_of("docstrings"), ids=[p.item_id for p in kept])
        return loaded([table], "docstrings (corpus)", facts=facts)
    # The name of any configured library is a clue to the label, its distributions' names too.
    mask = Mask(names, also={dist for name in names for dist in _versions(name)})
    masked = [p._replace(text=mask(p.text)) for p in kept]
    # Two texts that differed only by a name are the same now: the label of neither can be told.
    counts = Counter(fold(p.text) for p in masked)
    unique = [p for p in masked if counts[fold(p.text)] == 1]
    facts["same_after_masking"] = len(masked) - len(unique)
    index = {name: i for i, name in enumerate(names)}
    found = {p.library for p in unique}
    if missing := [name for name in names if name not in found]:
        raise UserError(
            f"No task paragraph of {source.min_words} words or more in {', '.join(missing)}.",
            "Leave it out of `libraries`, or lower min_words.",
        )
    table = part(
        "all",
        [p.text for p in unique],
        rows_of("docstrings"),
        indices=[index[p.library] for p in unique],
        ids=[p.item_id for p in unique],
    )
    return loaded([table], "docstrings (task)", names, facts)


def scan(
    libraries: tuple[str, ...], min_words: int, progress: Progress | None = None
) -> tuple[list[Paragraph], dict[str, int | str]]:
    """Every certain paragraph of both parts, by library, path and place in the file; counts of what was left out."""
    places = locate(libraries)
    total = {library: sum(1 for base in bases for _ in _python_files(base)) for library, bases in places.items()}
    files, done, unparsed, repeated = sum(total.values()), 0, 0, 0
    first: dict[str, Paragraph | None] = {}  # folded text → its first paragraph; None: in several libraries
    for library, bases in places.items():
        before = done
        report = None if progress is None else (lambda n, start=before: progress(start + n, files))
        found, failed = _scan_library(library, tuple(bases), tuple(_versions(library).items()), report)
        done, unparsed = done + total[library], unparsed + failed
        for paragraph in found:
            if len(paragraph.text.split()) < min_words:
                continue
            key = fold(paragraph.text)
            known = first.setdefault(key, paragraph)
            if known is None or known.item_id != paragraph.item_id:
                repeated += 1
                if known is not None and known.library != library:
                    first[key] = None
        if progress is not None:
            progress(done, files)
    kept = [p for p in first.values() if p is not None]
    ambiguous = len(first) - len(kept)
    return kept, {"files": files, "files_not_parsed": unparsed, "repeated": repeated, "in_several": ambiguous}


_scanned: dict[tuple[Any, ...], tuple[list[Paragraph], int]] = {}
_scan_lock = threading.Lock()


def _scan_library(
    library: str, bases: tuple[Path, ...], versions: tuple[tuple[str, str], ...], report: Callable[[int], None] | None
) -> tuple[list[Paragraph], int]:
    """All paragraphs of one library, and how many files could not be parsed.

    Remembered in the process: a study reads the same libraries for its corpus and its task, and torch takes seconds.
    """
    with _scan_lock:
        key = (library, bases, versions)
        if key not in _scanned:
            # A syntax tree is many small objects without cycles: collecting while parsing costs a third of the time.
            collecting = gc.isenabled()
            gc.disable()
            try:
                _scanned[key] = _parse_library(library, bases, report)
            finally:
                if collecting:
                    gc.enable()
        return _scanned[key]


def _parse_library(
    library: str, bases: tuple[Path, ...], report: Callable[[int], None] | None
) -> tuple[list[Paragraph], int]:
    found: list[Paragraph] = []
    unparsed = 0
    files = sorted((path, base) for base in bases for path in _python_files(base))
    for done, (path, base) in enumerate(files, start=1):
        try:
            found.extend(Paragraph(item_id, text, library) for item_id, text in _paragraphs_of(library, base, path))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            unparsed += 1  # templates and code for other Pythons exist in released packages
        if report is not None and done % 100 == 0:
            report(done)
    return found, unparsed


def _paragraphs_of(library: str, base: Path, path: str) -> Iterator[tuple[str, str]]:
    raw = (base / path).read_bytes() if base.is_dir() else base.read_bytes()
    if b'"""' not in raw and b"'''" not in raw:
        return  # parsing is what costs: prose is in triple quotes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's invalid escapes
        tree = ast.parse(raw)
    seen: Counter[str] = Counter()  # overloads and conditional definitions share a qualified name
    for qualname, docstring in _docstrings(tree, ""):
        for text in paragraphs(docstring, 1):
            yield f"{library}:{path}:{qualname or '<module>'}:{seen[qualname]}", text
            seen[qualname] += 1


def _docstrings(node: Any, qualname: str) -> Iterator[tuple[str, str]]:
    """Docstrings of a module, class or function and of what is defined in it; only statements are walked."""
    body = getattr(node, "body", [])
    if isinstance(node, (ast.Module, *_DOCUMENTED)) and body and isinstance(body[0], ast.Expr):
        value = body[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield qualname, value.value.encode("utf-8", "replace").decode()  # a half character no file can hold
    for name in ("body", "orelse", "finalbody", "handlers"):
        for child in getattr(node, name, ()):
            if isinstance(child, _DOCUMENTED):
                yield from _docstrings(child, f"{qualname}.{child.name}" if qualname else child.name)
            elif isinstance(child, (ast.If, ast.Try, ast.With, ast.For, ast.While, ast.ExceptHandler)):
                yield from _docstrings(child, qualname)


def _python_files(base: Path) -> Iterator[str]:
    if base.is_file():
        yield base.name
        return
    for folder, folders, files in os.walk(base):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        for name in files:
            if name.endswith(".py") and name != "conftest.py":
                yield (Path(folder) / name).relative_to(base).as_posix()


def locate(libraries: tuple[str, ...]) -> dict[str, list[Path]]:
    """Where each library's files are: its folders, or its one file. Nothing is imported.

    Raises:
        UserError: naming every library that is not installed or has no Python source.
    """
    if not libraries:
        raise UserError("No library is configured.", "List at least two in `libraries`.")
    bad = sorted(name for name in libraries if not name.isidentifier())
    if bad:  # a dotted name would import its parent
        raise UserError(f"Not a top-level import name: {', '.join(bad)}.", "Use names such as torch or sklearn.")
    places = {name: _place(name) for name in sorted(set(libraries))}
    if missing := [name for name, found in places.items() if not found]:
        raise UserError(f"Not installed: {', '.join(missing)}.", _REMEDY)
    if foreign := [name for name in places if not _distributions(name)]:
        raise UserError(
            f"No installed distribution provides {', '.join(foreign)}, so its version is not known.", _REMEDY
        )
    return places


def _place(name: str) -> list[Path]:
    # PathFinder, not find_spec: what happens to be in sys.modules must not matter.
    spec = importlib.machinery.PathFinder.find_spec(name)
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(p) for p in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _versions(name: str) -> dict[str, str]:
    # Builds of one release (torch 2.13.0+cpu, +cu130) document themselves in the same words.
    return {dist: importlib.metadata.version(dist).partition("+")[0] for dist in _distributions(name)}


@lru_cache(maxsize=256)
def _distributions(name: str) -> tuple[str, ...]:
    """The distributions that install a top-level name, e.g. sklearn → scikit-learn.

    `packages_distributions` parses the file list of everything installed (half a second); a distribution of the
    library's own name, or of one of its aliases, needs one look at its own.
    """
    for candidate in (name, *ALIASES.get(name, ())):
        try:
            own = importlib.metadata.distribution(candidate)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            continue
        top_level = (own.read_text("top_level.txt") or "").split()
        if name in top_level or f"\n{name}/__init__.py," in "\n" + (own.read_text("RECORD") or ""):
            return (_normal(candidate),)
    return tuple(sorted({_normal(d) for d in _all_distributions().get(name, ())}))


@lru_cache(maxsize=1)
def _all_distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
