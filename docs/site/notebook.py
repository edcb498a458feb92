"""A notebook as a page: its text, its code, and what its code shows when it is run here."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

ROWS = 20
"""Of a table that are shown."""


def as_page(notebook: Path, *, run: bool) -> tuple[str, dict[str, bytes]]:
    """Markdown, and the pictures that it shows by file name (PNG).

    Args:
        run: whether the code is run (in this process, in the notebook's order), or only shown.

    Raises:
        Exception: whatever a cell raises.
    """
    mpl.use("agg")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    pieces, pictures, names = list[str](), dict[str, bytes](), dict[str, Any]()
    for number, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] != "code":
            pieces.append(text)
            continue
        pieces.append(f"```python\n{text}\n```")
        if not run:
            continue
        shown = _run(text, names, str(notebook))
        for place, picture in enumerate(_pictures()):
            name = f"{notebook.stem}-{number}-{place}.png"
            pictures[name] = picture
            pieces.append(f"![What the code above draws]({name})")
        if hasattr(shown, "to_html"):
            pieces.append(shown.head(ROWS).to_html(index=False, border=0, float_format="{:.3g}".format))
            if len(shown) > ROWS:
                pieces.append(f"The first {ROWS} of {len(shown):,} rows.")
    return "\n\n".join(pieces) + "\n", pictures


def _run(code: str, names: dict[str, Any], place: str) -> object:
    """Run a cell; the value of its last line if that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, place, "exec"), names)  # noqa: S102 – the repository's own notebook
    return eval(compile(ast.Expression(last.value), place, "eval"), names) if isinstance(last, ast.Expr) else None  # noqa: S307


def _pictures() -> Iterator[bytes]:
    """What was drawn since the last time."""
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        png = io.BytesIO()
        plt.figure(number).savefig(png, format="png", bbox_inches="tight", metadata={"Software": None})
        yield png.getvalue()
    plt.close("all")
