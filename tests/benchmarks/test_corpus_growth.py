"""The benchmark of large corpora measures every stage from source to overlap, each in a process of its own."""

from __future__ import annotations

import pytest
from shell import real_data_root

from benchmarks.corpus import STAGES, main


@pytest.mark.slow
@pytest.mark.skipif(not real_data_root(), reason="TLM_DATA_ROOT is not set")
def test_every_stage_is_measured_and_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLM_DATA_ROOT", str(real_data_root()))
    found = main(["--paragraphs", "1500"])[1_500]
    assert list(found) == [stage for stage in found if stage in STAGES] and set(found) == set(STAGES)
    assert all(each.memory > 10 << 20 and each.cpu > 0 for each in found.values())
    assert "1,500 paragraphs" in capsys.readouterr().out
