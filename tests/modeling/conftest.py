"""The fixture `name`: a test runs once for each variant of the paper."""

from __future__ import annotations

import pytest

from tlm.modeling.variants import VARIANTS


@pytest.fixture(params=list(VARIANTS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param
