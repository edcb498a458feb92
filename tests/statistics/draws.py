"""What the tests of the statistics draw."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

RUNS = arrays(np.bool_, st.tuples(st.integers(2, 5), st.integers(2, 12)))
LAW = settings(max_examples=50)


def correct(seed: int, *shape: int, share: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share
