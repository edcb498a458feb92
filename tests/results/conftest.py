"""Half a second for each plot would be most of these tests: figures are laid out, but not drawn."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tlm.report import drawing
from tlm.report.drawing import Plot


@pytest.fixture(autouse=True)
def quick_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`svg` holds a plot's texts. A test that asks for `really_drawn` gets the real thing."""

    def saved(figure: Figure, name: str, title: str) -> Plot:
        return Plot(name, title, b"not drawn", " | ".join(text.get_text() for text in figure.findobj(Text)))

    if "really_drawn" not in request.fixturenames:
        monkeypatch.setattr(drawing, "saved", saved)


@pytest.fixture
def really_drawn() -> None:
    """Ask for it to have plots drawn."""
