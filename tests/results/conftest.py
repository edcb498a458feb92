"""Most of these tests' time would be plots and resamples: none is drawn unless a test asks for it, and these are few."""

from __future__ import annotations

from functools import partial

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from results.undrawn import no_plots

from tlm.report import comparison, drawing
from tlm.statistics import paired


@pytest.fixture(autouse=True)
def quick_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "really_drawn" not in request.fixturenames and "laid_out" not in request.fixturenames:
        no_plots(monkeypatch)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for p-values of families of up to a hundred questions; tests/statistics tests the resampling itself."""
    fewer = partial(paired.paired_bootstrap_p_value, draws=paired.DRAWS // 5)
    monkeypatch.setattr(comparison, "paired_bootstrap_p_value", fewer)


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
