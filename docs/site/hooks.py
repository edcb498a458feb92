"""What `mkdocs.yml` calls: the repository's documents at their own places, and the pages of the library's reference."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from notebook import as_page

ROOT = Path(__file__).parents[2]
SHOWN = (".md", ".ipynb", ".png", ".svg")
FOLDERS = ("docs", "data", "mlflow", "sql", "benchmarks")
PACKAGES = ("tlm", "tasks", "flows")
LINK = re.compile(r"(?<!!)\[([^]]*)\]\(([^()\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The reference is filled into the navigation."""
    for entry in config.nav or []:
        if "Reference" in entry:
            entry["Reference"] = [{Path(name).stem: name} for name, _ in _reference()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every document and picture that git knows of, under its path in the repository, and the reference."""
    for name in _documents():
        if name.endswith(".ipynb"):
            text, pictures = as_page(ROOT / name, run=any((ROOT / "docs/published").glob("*/*.parquet")))
            files.append(File.generated(config, _page_of(name), content=text))
            for picture, png in pictures.items():
                files.append(File.generated(config, str(Path(name).with_name(picture)), content=png))
        else:
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for name, text in _reference():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """A link to a file that is no page, a query or a module, is shown as its name: the site has no such file."""

    def resolved(link: re.Match[str]) -> str:
        words, target = link.groups()
        there = (ROOT / page.file.src_uri).parent / target.partition("#")[0]
        if re.match(r"[a-z]+:|#", target) or not there.exists():
            return link[0]
        return f"[{words}]({_page_of(target)})" if there.suffix in SHOWN else words

    return LINK.sub(resolved, markdown)


def _page_of(name: str) -> str:
    return name.replace(".ipynb", ".md")


def _documents() -> Iterator[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        place = Path(name)
        inside = place.parts[0] in FOLDERS and place.parts[:2] != ("docs", "site")
        if place.suffix in SHOWN and (inside or len(place.parts) == 1) and (ROOT / name).is_file():
            yield name


def _reference() -> Iterator[tuple[str, str]]:
    """A page for each room of `tlm`, and one for each of the other packages: their modules in turn."""
    for package in PACKAGES:
        rooms = [each for each in sorted((ROOT / package).iterdir()) if (each / "__init__.py").is_file()]
        own = sorted((ROOT / package).glob("*.py"))
        if own:
            yield f"reference/{package}.md", _page(package, own)
        for room in rooms:
            yield f"reference/{package}.{room.name}.md", _page(f"{package}.{room.name}", sorted(room.rglob("*.py")))


def _page(title: str, modules: list[Path]) -> str:
    dotted = [".".join(each.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for each in modules]
    return f"# {title}\n\n" + "\n\n".join(f"::: {name}" for name in dotted) + "\n"
