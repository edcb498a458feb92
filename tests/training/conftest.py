"""What holds for every test of training."""

from __future__ import annotations

import pytest
import torch

from tlm.training import checkpoint


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread: the same sums in the same order, whatever the machine. And no test waits for a disk."""
    torch.set_num_threads(1)
    monkeypatch.setattr(checkpoint.os, "fsync", lambda handle: None)
