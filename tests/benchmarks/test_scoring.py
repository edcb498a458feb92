"""The benchmark of scoring counts sentences as they come, and says how many of them differ."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import numbered_vocabulary

from benchmarks import scoring
from tlm.data.benchmarks.tokens import OptionTokens
from tlm.data.ragged import Ragged


def test_it_prints_a_rate_for_each_round(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    texts = Ragged.from_lists([[5, 6], [5, 6], [7, 8, 9], [5]])
    nothing = np.zeros(4, dtype=np.int64)
    tokens = OptionTokens(texts, nothing, nothing.astype(bool), nothing)
    monkeypatch.setattr(scoring, "sentences", lambda limit: (numbered_vocabulary(40), tokens))
    found = scoring.main(["--rounds", "2", "--threads", "1"])
    assert (found.sentences, found.distinct, len(found.rates)) == (4, 3, 2) and min(found.rates) > 0
    assert "micro, 1 threads of torch" in capsys.readouterr().out
