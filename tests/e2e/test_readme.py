"""The README's way to a model of bytes from one's own texts, as it is written there, in an empty folder."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import python_environment, sentence

from tlm.machine.runtime import PACKAGE_PARENT

pytestmark = pytest.mark.slow

SECTION = "A model of bytes from your own texts"
STEPS = 6
AS_IF_INSTALLED = f"""set -e
tlm() {{ if [ "$1" = run ]; then set -- "$@" --limit-steps {STEPS}; fi; '{sys.executable}' -m flows.cli "$@"; }}
python() {{ '{sys.executable}' "$@"; }}
git() {{ mkdir -p "$(dirname "${{@: -1}}")"; cp -r "$HOME/blimp" "${{@: -1}}"; }}
source() {{ :; }}
"""
"""Trainings are cut short, nothing is fetched, and this test's Python is the environment; all else is the README's."""


def block() -> str:
    text = (PACKAGE_PARENT / "README.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text.partition(f"## {SECTION}\n")[2], flags=re.MULTILINE)[0]
    return "".join(f"{line[4:]}\n" for line in section.splitlines() if line.startswith("    "))


def write_home(home: Path) -> None:
    """What the user has: some texts, and what `git clone` brings."""
    generator = random.Random(5)
    (home / "my_texts").mkdir(parents=True)
    for number in range(2):
        paragraphs = [sentence(generator, topic) for _ in range(575) for topic in ("sea", "land")]
        (home / "my_texts" / f"{number}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    (home / "blimp/data").mkdir(parents=True)
    for paradigm in ("agreement", "islands"):
        pairs = [
            {"UID": paradigm, "pairID": str(n), "linguistics_term": paradigm, "sentence_good": f"{who} sails.",
             "sentence_bad": f"{who} sail."} for n, who in enumerate(("Zoë", "Quentin", "Xavier"))
        ]  # fmt: skip
        lines = "\n".join(map(json.dumps, pairs))
        (home / "blimp/data" / f"{paradigm}.jsonl").write_text(lines, encoding="utf-8")


def test_its_commands_train_score_compress_write_and_load(tmp_path: Path) -> None:
    commands, place = block(), tmp_path / "checkout"
    assert commands.startswith("source .venv/bin/activate\n") and "trust_remote_code" not in commands
    write_home(tmp_path / "home")
    place.mkdir()
    done = subprocess.run(
        ["bash", "-c", AS_IF_INSTALLED + commands],
        cwd=place,
        env=python_environment(TLM_HOME=str(place), HOME=str(tmp_path / "home"), TLM_WORKERS="1", OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=1_200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Scores by likelihood" in done.stdout and "Test accuracy" not in done.stdout
    *_, header, whole, smaller, written, by_the_smaller, parameters = done.stdout.rstrip("\n").split("\n")
    assert header == '"system","score","chance","ngram"'
    assert whole.startswith('"byte-micro",') and smaller.startswith('"byte-micro, int8",')
    assert written.startswith("The ") and by_the_smaller.startswith("The ")
    assert int(parameters) > 1_000_000
