"""The fixture `name`: a test runs once for each variant of the paper (an encoder)."""

from __future__ import annotations

import pytest

from tlm.study.architecture import VARIANTS


@pytest.fixture(params=[name for name, variant in VARIANTS.items() if variant.kind == "encoder"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param
