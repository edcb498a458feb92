"""What a runtime can be, before anything runs in it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.errors import UserError
from tlm.machine.runtime import Runtime


@given(isolate=st.booleans(), workers=st.integers(1, 64))
def test_only_processes_of_their_own_train_side_by_side(isolate: bool, workers: int) -> None:
    if isolate or workers == 1:
        assert Runtime(isolate=isolate, workers=workers).workers == workers
    else:
        with pytest.raises(UserError, match=f"workers={workers} with isolate=False"):
            Runtime(isolate=isolate, workers=workers)


def test_unless_it_is_said_there_are_as_many_as_cores_or_one_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Runtime().workers == os.cpu_count()
    assert Runtime(isolate=False).workers == 1
    monkeypatch.setenv("TLM_WORKERS", "3")
    assert Runtime.from_environment().workers == 3
    with pytest.raises(UserError, match="workers=3 with isolate=False"):
        Runtime.from_environment(isolate=False)
    assert Runtime.from_environment(isolate=False, workers=1).workers == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("TLM_WORKERS", "abc"), ("TLM_DEVICE", "tpu"), ("TLM_STAGE_TIMEOUT", "inf"), ("TLM_THREADS", "0")],
)
def test_a_wrong_value_of_the_environment_is_named_for_whoever_reads_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"\({name}\): .*\(got '{value}'\)") as raised:
        Runtime.from_environment()
    assert "\n" not in str(raised.value)
