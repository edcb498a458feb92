"""The latency benchmark runs whole on tiny models, and says what its figures say. No time is asserted."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import latency
from benchmarks.latency_report import Row, findings
from benchmarks.latency_systems import (
    ALONE,
    DEEP,
    ONE_BY_ONE,
    PROCESSES,
    THREADS,
    Runner,
    Scale,
    cost,
    shares,
    systems,
)
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary
from tlm.data.wordpiece_training import SPECIAL_TOKENS
from tlm.errors import UserError
from tlm.modeling.cost import count_parameters, sequential_depth
from tlm.study.architecture import SHALLOW

TINY = Scale(head_size=4, conv_channels=2, vocab_size=50, max_length=16, num_labels=3)
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, *(f"t{i}" for i in range(45))), 0, 1, 2, 3, 4)
TOKENS = Ragged.from_lists([[5, 6, 7], [8] * 9, [9]])
SYSTEMS = {system.name: system for system in systems(TINY)}
FIVE = next(system for name, system in SYSTEMS.items() if name.startswith("five"))


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TLM_DATA_ROOT", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = Runner(TINY, VOCABULARY, "cpu")
    yield made
    made.close()


def test_a_run_measures_every_system_and_saves_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency, "KEPT", 6)
    tiny = ["--head-size", "2", "--conv-channels", "1", "--max-length", "24", "--count", "2", "--batch", "1"]
    rows = latency.main([*tiny, "--rounds", "2", "--seconds", "0", "--threads", "1", "--out", str(tmp_path)])
    assert {row.system for row in rows if row.how == ALONE} == {DEEP, *SHALLOW}
    assert {row.members for row in rows if row.how == ONE_BY_ONE} == {2, 5}
    assert {row.precision for row in rows} == {"float32", "bfloat16"}
    assert all(0 < row.p50 <= row.p95 and row.calls == 2 and row.flops > 0 for row in rows)
    with open(tmp_path / "latency.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    report = (tmp_path / "latency.md").read_text(encoding="utf-8")
    assert all(line in report for line in findings(rows)) and "| bert1e | alone |" in report
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert "The committee of 5, one after another" in capsys.readouterr().out


def test_members_side_by_side_give_the_scores_of_members_one_by_one(runner: Runner) -> None:
    _, one_by_one = runner.call(FIVE, ONE_BY_ONE, "float32", 2)
    threads, by_threads = runner.call(FIVE, THREADS, "float32", 2)
    assert threads == 1, "the process itself only waits"
    scores = one_by_one(TOKENS)
    assert scores.shape == (3, 3)
    np.testing.assert_allclose(by_threads(TOKENS), scores, atol=1e-6)


@pytest.mark.slow
def test_so_do_processes(runner: Runner) -> None:
    _, one_by_one = runner.call(FIVE, ONE_BY_ONE, "float32", 2)
    _, by_processes = runner.call(FIVE, PROCESSES, "float32", 2)
    np.testing.assert_allclose(by_processes(TOKENS), one_by_one(TOKENS), atol=1e-6)
    processes = [process for process, _ in runner.children]
    assert len(processes) == 2
    runner.close()
    runner.children.clear()
    assert [process.exitcode for process in processes] == [0, 0]


def test_contenders_take_turns_on_the_same_batches() -> None:
    seen: list[tuple[str, list[int]]] = []
    calls = [(1, lambda tokens, name=name: seen.append((name, tokens.ids.tolist()))) for name in "ab"]
    times = latency.alternate(calls, TOKENS, batch=2, rounds=2, seconds=0)
    assert [name for name, _ in seen] == ["a", "b", "b", "a", "a", "b"]
    assert all(first[1] == second[1] for first, second in zip(seen[::2], seen[1::2], strict=True))
    assert [[len(calls) for calls in rounds] for rounds in times] == [[1, 1], [1, 1]], "the first turn is not timed"


def test_texts_of_the_documented_lengths() -> None:
    _, tokens, _ = latency.texts(128)
    assert abs(float(tokens.lengths.mean()) + 2 - 31) < 1
    assert tokens.lengths.min() >= 7 and tokens.lengths.max() <= 70
    assert latency.texts(16)[1].lengths.max() == 14


# --- what systems are and cost ---


def test_depth_counts_what_has_to_wait() -> None:
    scale = Scale()
    depths = {name: sequential_depth(scale.architecture(name)) for name in (DEEP, *SHALLOW)}
    assert depths == {"bert6": 38, "bert1a": 8, "bert1b": 11, "bert1c": 11, "bert1d": 12, "bert1e": 11}


def test_a_committee_costs_what_its_members_cost_and_is_as_deep_as_the_deepest(runner: Runner) -> None:
    members = [cost(SYSTEMS[name], TINY, 9) for name in SHALLOW]
    whole = cost(FIVE, TINY, 9)
    assert whole.flops == sum(member.flops for member in members)
    assert whole.depth == max(member.depth for member in members)
    assert whole.parameters == sum(count_parameters(runner.models[member]) for member in FIVE.members)


def test_copies_have_weights_of_their_own_and_one_embedding(runner: Runner) -> None:
    first, second = (runner.models["bert1a", copy] for copy in (0, 1))
    assert first.bert.embeddings is second.bert.embeddings
    assert not torch.equal(
        first.bert.encoder.layer[0].output.dense.weight, second.bert.encoder.layer[0].output.dense.weight
    )
    paper = {system.name: system for system in systems(Scale())}["32 × bert1a"]
    assert len(paper.members) == 32 and 1 < len(set(paper.members)) < 32


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_shares_hold_each_member_once_and_none_is_empty(workers: int) -> None:
    given = shares(FIVE.members, workers, Scale())
    assert sorted(member for share in given for member in share) == sorted(FIVE.members)
    assert len(given) == min(workers, 5)
    assert workers == 1 or given[0] == [("bert1e", 0)], "the most expensive has a worker of its own"


# --- what is said ---


def row(system: str, how: str, p50: float, members: int = 1) -> Row:
    return Row("float32", 2, 1, system, how, members, p50, p50, 3)


def test_findings_are_computed_from_the_rows() -> None:
    rows = [row(DEEP, ALONE, 10.0), *(row(name, ALONE, 2.0 * i) for i, name in enumerate(SHALLOW, start=1))]
    rows += [row("five (…)", ONE_BY_ONE, 30.0, 5), row("five (…)", THREADS, 8.0, 5), row("five (…)", PROCESSES, 9.0, 5)]
    rows += [row("2 × bert1a", ONE_BY_ONE, 4.0, 2), row("4 × bert1a", ONE_BY_ONE, 12.0, 4)]
    said = "\n".join(findings(rows))
    assert "one after another: 30.0 ms, 3.00 times BERT-6's time (SLOWER)" in said
    assert "2 at a time by threads: 8.0 ms, 0.80 times BERT-6's time (FASTER)" in said
    assert "threads are the faster" in said
    assert "slowest member, bert1e: 10.0 ms, 1.00 times" in said
    assert "faster alone: bert1a, bert1b, bert1c, bert1d." in said
    assert "largest committee of bert1a that is faster: 2," in said


def test_findings_say_when_the_machine_was_not_quiet() -> None:
    quiet = row(DEEP, ALONE, 10.0)
    assert "NOT QUIET" not in findings([quiet])[0]
    assert "others kept 0.9 cores busy" in findings([replace(quiet, others=0.9)])[0]


def test_without_bert6_there_is_nothing_to_compare_with() -> None:
    assert findings([row("bert1a", ALONE, 1.0)]) == []


def test_a_system_that_does_not_exist_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--model bert7: no such system"):
        latency.main(["--model", "bert7", "--out", str(tmp_path)])
