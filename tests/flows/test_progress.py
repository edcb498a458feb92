"""Progress that Prefect shows is beside the work: a server that is away costs the bar, and no study."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from flows import progress
from flows.progress import StudyProgress

STEP: Any = SimpleNamespace(ref="finetune/topics")


@pytest.mark.parametrize("away", ["create_progress_artifact", "update_progress_artifact"])
def test_a_study_goes_on_without_its_bar_if_prefect_does_not_take_it(
    away: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def refuse(*given: Any, **named: Any) -> None:
        asked.append(named)
        raise httpx.ConnectError("nobody is there")

    monkeypatch.setattr(progress, "get_run_logger", lambda: logging.getLogger("progress"))
    monkeypatch.setattr(progress, "create_progress_artifact", lambda **_: uuid4())
    monkeypatch.setattr(progress, away, refuse)
    monkeypatch.setattr(progress, "SECONDS", -1)
    told = StudyProgress("mini", steps=2, todo=2)
    for _ in range(2):
        told.begins(STEP)
        told.ends(STEP)
    assert len(asked) == 1, "who is away is not asked at each step: each time would be waited for"
    assert told.ended == 2 and "not shown any further (nobody is there)" in caplog.text
