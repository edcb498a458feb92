"""Commands asked one after the other in a process of their own, each with its exit code and what it printed.

One process for several, because Python and its imports take longer than most answers. What it prints goes to files: a
server that outlives a command would hold a pipe open.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

UNPRIVILEGED = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""What makes the permissions of files count for root, too."""


@dataclass
class Said:
    """How a command ended (None if it hung), and what it printed."""

    code: int | None
    out: str
    err: str

    @property
    def everything(self) -> str:
        return f"{self.out}{self.err}"

    @property
    def is_clear(self) -> bool:
        """Whether an error, if it is one, is one line."""
        errors = [line for line in self.err.splitlines() if not line.startswith("left out:")]
        return self.code in (0, 1, None) or (len(errors) == 1 and errors[0].startswith("error: "))


def ask(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    *,
    patience: float,
    privileges: Sequence[str] = (),
) -> list[Said]:
    """What `tlm` answers to each list of arguments; after `patience` seconds for all of them, they hang."""
    with tempfile.TemporaryDirectory() as answers:
        command = [*privileges, sys.executable, "-m", "tests.campaigns.asking", answers, json.dumps(commands)]
        process = subprocess.Popen(command, env=dict(environment), cwd=Path(__file__).parents[2])
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return [_said(Path(answers), number) for number in range(len(commands))]


def _said(answers: Path, number: int) -> Said:
    texts = [answers / f"{number}.{name}" for name in ("code", "out", "err")]
    code, out, err = (text.read_text(encoding="utf-8", errors="replace") if text.exists() else "" for text in texts)
    return Said(int(code) if code else None, out, err)


def _answer(answers: Path, number: int, arguments: Sequence[str]) -> None:
    from flows import cli

    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(answers / f"{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = ["tlm", *arguments]
    code: object = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    (answers / f"{number}.code").write_text(str(code), encoding="utf-8")


if __name__ == "__main__":
    place, asked = sys.argv[1:]
    for position, each in enumerate(json.loads(asked)):
        _answer(Path(place), position, each)
