"""The terminal's summary shows what the mart `results` holds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest
from helpers import python
from rich.console import Console
from synthetic import MadeUp

from tlm.artifacts.record import Record
from tlm.report.evidence import Evidence
from tlm.report.summary import scores_to_rich, summary, to_rich


def test_summary_equals_the_marts(made_up: MadeUp) -> None:
    frame = summary(Evidence(made_up.connection, made_up.study))
    assert len(frame) == 2 * 2 * 2 + 2  # tasks × Ws × architectures, and the injected corpus for one task
    line = frame[(frame.task == "topics") & (frame.ws == 400) & (frame.architecture == "deep") & frame.treatment.isna()]
    (found,) = line.to_dict("records")
    (mean,) = made_up.connection.execute(
        "select 100 * avg(accuracy), 100 * min(type_overlap) from results where task = ? and arch = ? and ws = 400 "
        "and treatment is null",
        ["topics", "deep"],
    ).fetchall()
    assert (found["pretrained"], found["type_overlap"]) == pytest.approx(mean)
    assert found["scratch"] == pytest.approx(41.0) and found["tfidf"] == pytest.approx(55.0)
    assert found["committee pair"] == pytest.approx(60.0)
    assert found["gap"] == pytest.approx(30.0) and found["resolved"] is True


def test_to_rich_prints_every_line(made_up: MadeUp) -> None:
    frame = summary(Evidence(made_up.connection, made_up.study))
    console = Console(width=170, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(to_rich(frame))
    text = console.export_text()
    assert text.count("+30.0 ± 7.7*") == 4 and "400 · random-unk-5" in text


def test_to_rich_of_nothing() -> None:
    assert to_rich(pd.DataFrame()).row_count == 0


def test_what_reads_a_report_imports_nothing_that_draws_or_computes_one() -> None:
    """Every command that ends with a study's table would wait for it."""
    slow = "('matplotlib', 'scipy.stats', 'scipy.optimize', 'torch')"
    code = f"import sys, tlm.report.saved, tlm.report.summary; print([name for name in {slow} if name in sys.modules])"
    done = python(code)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_scores_stand_beside_chance_and_the_best_null() -> None:
    facts = {"score": 0.6, "chance": 0.5, "untrained": 0.51, "fewest_tokens": 0.4, "fewest_bytes": 0.45, "ngram": 0.555}
    labels = {"task": "blimp", "ws": 2_000, "arch": "plain", "arm": "bytes", "budget": 90, "treatment": None}
    console = Console(width=80, record=True)
    console.print(scores_to_rich([cast(Record, SimpleNamespace(labels=labels, facts=facts))]))
    text = console.export_text()
    assert "blimp     2,000 plain, bytes, 90 steps  60.0   50.0      55.5" in text
