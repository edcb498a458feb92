"""`tlm publish`: the marts of studies that have run in this home, as small files to commit beside docs/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows.reporting import command_of
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.results.answers import of_home
from tlm.results.published import differences, folders, load, publish
from tlm.results.published_columns import README, readme


def publish_studies(store: ArtifactStore, names: Sequence[str], folder: Path, console: Console) -> None:
    """Write the folders of these studies (none named: of all that answer a question), and leave all others as they are.

    Args:
        names: as `tlm report` prints them (ws-sweep-tiny), or without the scale, which means each scale that has run.

    Raises:
        UserError: before anything is written, if one of them has not run here or its report is damaged.
    """
    found = of_home(store, command_of)
    wanted = [each for each in found.answered if not names or {each.name, each.study.name} & {*names}]
    absent = [name for name in names if not any(name in (each.name, each.study.name) for each in wanted)]
    if absent or not wanted:
        there = ", ".join(each.name for each in found.answered) or "none"
        why = "".join(f" {name} is left out: it {reason}." for name, reason in found.left_out.items())
        missing = f"{', '.join(absent)} has not run here" if absent else "No study that can be published has run here"
        raise UserError(f"{missing} (what has: {there}).{why}", found.remedy)
    for each in wanted:
        assert each.report is not None
        place = publish(each.report, each.study, folder)
        console.print(f"{place}: {_size(place)}", highlight=False, soft_wrap=True)
    (folder / README).write_text(readme(), encoding="utf-8")
    published = folders(folder)
    for line in differences({place.name: load(place) for place in published}):
        console.print(f"different: {line}", highlight=False, soft_wrap=True)
    console.print(f"{folder}: {len(published)} studies, {_size(folder)}", highlight=False, soft_wrap=True)


def _size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.rglob('*.parquet')) / 1e6:.2f} MB"
