"""Plots would be most of these tests' time: none is drawn, unless a test asks for it."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from results.undrawn import no_plots

from tlm.report import drawing


@pytest.fixture(autouse=True)
def quick_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "really_drawn" not in request.fixturenames and "laid_out" not in request.fixturenames:
        no_plots(monkeypatch)


@pytest.fixture
def really_drawn() -> None:
    """Ask for it to have plots drawn."""


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for it to have figures made but not drawn: `svg` holds a plot's texts."""

    def texts(figure: Figure, name: str, title: str) -> str:
        return " | ".join(text.get_text() for text in figure.findobj(Text))

    monkeypatch.setattr(drawing, "as_png", lambda figure: b"not drawn")
    monkeypatch.setattr(drawing, "as_svg", texts)
