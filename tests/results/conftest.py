"""Half a second for each plot would be most of these tests: figures are laid out, but not drawn."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tlm.report import drawing


@pytest.fixture(autouse=True)
def quick_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`svg` holds a plot's texts. A test that asks for `really_drawn` gets the real thing."""

    def texts(figure: Figure, name: str, title: str) -> str:
        return " | ".join(text.get_text() for text in figure.findobj(Text))

    if "really_drawn" not in request.fixturenames:
        monkeypatch.setattr(drawing, "as_png", lambda figure: b"not drawn")
        monkeypatch.setattr(drawing, "as_svg", texts)


@pytest.fixture
def really_drawn() -> None:
    """Ask for it to have plots drawn."""
