"""Stand-ins for plots, whose drawing would be most of these tests' time."""

from __future__ import annotations

from functools import cached_property

import pytest

from tlm.report.drawing import Plot


def no_plots(patch: pytest.MonkeyPatch) -> None:
    """`png` and `svg` stand in for plots wherever there is something to draw."""
    patch.setattr(Plot, "png", property(lambda plot: b"not drawn" if plot.draw else b""))
    patch.setattr(Plot, "svg", property(lambda plot: "not drawn" if plot.draw else ""))


def plots_are_drawn() -> bool:
    return isinstance(vars(Plot)["png"], cached_property)
