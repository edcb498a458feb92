"""The documents hold together: every relative link in a Markdown file leads to a file, and to a heading, that exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from flows.studies import STUDIES
from tlm.machine.runtime import PACKAGE_PARENT
from tlm.stages import STAGES

FOLDERS = ("", "docs", "data", "mlflow", "sql", "benchmarks", "tests")
DOCUMENTS = sorted(path for folder in FOLDERS for path in (PACKAGE_PARENT / folder).glob("*.md"))
ROOMS = "|".join(path.stem for path in (PACKAGE_PARENT / "tlm").iterdir() if path.suffix in ("", ".py"))
SOURCES = sorted(
    path for top in ("tlm", "tasks", "flows", "benchmarks") for path in (PACKAGE_PARENT / top).rglob("*.py")
)


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE_PARENT))


def prose(text: str) -> str:
    """A document without its blocks and spans of code, in which brackets are no links."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?:(?<=\n\n)|\A)(?: {4}.*\n+)+", "\n", text)
    return re.sub(r"`[^`\n]*`", "", text)


def links(text: str) -> Iterator[str]:
    """Where links and images lead, without those to other hosts."""
    for target in re.findall(r"\]\(([^()\s]+)\)", prose(text)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(text: str) -> set[str]:
    """The anchor of every heading, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *$", re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
    return {f"{anchor}-{n}" if n else anchor for anchor, times in found.items() for n in range(times + 1)}


@cache
def anchors_of(path: Path) -> set[str]:
    return anchors(path.read_text(encoding="utf-8"))


def broken(text: str, place: Path) -> list[str]:
    """The links of a document at `place` that lead nowhere."""
    found = []
    for target in links(text):
        file, _, anchor = target.partition("#")
        there = (place.parent / file).resolve() if file else place
        known = (
            anchors(text) if there == place else anchors_of(there) if there.suffix == ".md" and there.exists() else None
        )
        if not there.exists() or (anchor and (known is None or anchor not in known)):
            found.append(target)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(document: Path) -> None:
    assert broken(document.read_text(encoding="utf-8"), document) == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading: of `code`\n", encoding="utf-8")
    text = (
        "# Here\n\n[a](there.md) [b](there.md#a-heading-of-code) ![c](none.png) [d](there.md#none) [e](#here) [f](#none)\n"
        "[g](https://example.org/none) `[h](none.md)`\n\n    [i](none.md)\n"
    )
    here = tmp_path / "here.md"
    here.write_text(text, encoding="utf-8")
    assert broken(text, here) == ["none.png", "there.md#none", "#none"]


def test_documents_that_code_and_prose_name_exist() -> None:
    """docs/x.md, or the README of a folder."""
    page = re.compile(r"(?<![\w/.])(?:docs|sql|mlflow|data)/[\w-]+\.md\b")
    named = {(found, name(path)) for path in [*SOURCES, *DOCUMENTS] for found in page.findall(path.read_text("utf-8"))}
    assert {(found, where) for found, where in named if not (PACKAGE_PARENT / found).is_file()} == set()


def test_every_page_of_docs_is_linked_from_the_readme() -> None:
    linked = {target.partition("#")[0] for target in links((PACKAGE_PARENT / "README.md").read_text(encoding="utf-8"))}
    assert {name(path) for path in DOCUMENTS if path.parent.name == "docs"} <= linked


def test_files_and_modules_that_a_document_names_exist() -> None:
    """tlm/x/y.py and `tlm.x.y`; the changelog may also name what is gone."""
    missing = set()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8") if document.name != "CHANGELOG.md" else ""
        paths = set(re.findall(r"(?<![\w/.])(?:tlm|tasks|flows|sql|tests|benchmarks)/[\w/.-]*\w", text))
        modules = {module.replace(".", "/") for module in re.findall(rf"`(tlm\.(?:{ROOMS})(?:\.\w+)*)`", text)}
        missing |= {(name(document), path) for path in paths if not (PACKAGE_PARENT / path).exists()}
        missing |= {(name(document), module) for module in modules if not is_module(module)}
    assert missing == set()


def test_quickstart_has_every_section_of_a_report() -> None:
    page = (PACKAGE_PARENT / "docs/quickstart.md").read_text(encoding="utf-8")
    rows = [row.split(" | ")[0].strip("| ") for row in page.splitlines() if row.startswith("| ")]
    source = (PACKAGE_PARENT / "tlm/report/sections.py").read_text(encoding="utf-8")
    titles = re.findall(r'Section\(\s+"\w+",\s+"([\w -]+)",', source)
    assert len(titles) > 5 and [row for row in rows if row in titles] == titles
    assert rows[-1] == "How it was made"


def test_what_python_in_a_document_imports_from_tlm_exists() -> None:
    lines = {
        (name(document), *found)
        for document in DOCUMENTS
        for found in re.findall(r"^ {4}from (tlm[\w.]*) import ([\w, ]+)$", document.read_text("utf-8"), re.MULTILINE)
    }
    assert lines
    for document, module, names in lines:
        lacking = [each for each in names.split(", ") if not hasattr(import_module(module), each)]
        assert not lacking, f"{document}: {module} has no {lacking}"


def is_module(path: str) -> bool:
    """Whether it is a package, a module, or something in one."""
    there = PACKAGE_PARENT / path
    return there.is_dir() or there.with_suffix(".py").is_file() or there.parent.with_suffix(".py").is_file()


def first_cells(page: str) -> set[str]:
    """What stands in code in the first cell of the rows of a page's tables."""
    return set(re.findall(r"^\| \[?`([\w/.-]+?)/?`", (PACKAGE_PARENT / page).read_text(encoding="utf-8"), re.MULTILINE))


def test_architecture_has_every_stage_and_questions_has_every_study() -> None:
    own = {kind.name for kind in STAGES.values() if kind.__module__.startswith("tlm.")}
    assert own <= first_cells("docs/architecture.md")
    scaled = {study.name for study in STUDIES.values() if study.scaled}
    assert scaled == first_cells("docs/questions.md") & set(STUDIES)
    assert scaled <= anchors_of(PACKAGE_PARENT / "docs/questions.md")
