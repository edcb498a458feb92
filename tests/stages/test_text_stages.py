"""What is lost of a text is said: in the facts of its artifacts, in notes before training, in the catalogue."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from helpers import mini_study, only, sentence, write_csv, write_mini_data

from tlm.artifacts.marts import build_memory
from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.data.ragged import Ragged
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.stages import STAGES

DATA = ("source", "tokenizer", "tokens", "corpus", "task", "overlap", "baseline")


class Ran:
    """A miniature study's stages before training, on data of one's own."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.runtime = Runtime(home=str(folder / "home"), data_root=str(folder / "raw"), isolate=False)
        changes = {"treatments": [], "committees": [], "corpus__sizes": [0, 60], **changes}
        self.plan: Plan = plan(mini_study(**changes), self.runtime.data_root)
        self.store = ArtifactStore(self.runtime.artifacts)

    def make(self, *stages: str) -> Ran:
        for step in self.plan.steps:
            if step.stage in (stages or DATA):
                execute(step, self.runtime)
        return self

    def step(self, stage: str, slug: str) -> Step:
        [found] = [step for step in self.plan.steps if (step.stage, step.slug) == (stage, slug)]
        return found

    def record(self, stage: str, slug: str) -> Record:
        return self.store.get(self.step(stage, slug).ref).record

    def notes(self, stage: str, slug: str) -> list[str]:
        return STAGES[stage].notes(self.record(stage, slug))


def test_invisible_texts_are_left_out_and_counted_and_none_is_in_a_pretraining_set(tmp_path: Path) -> None:
    write_mini_data(tmp_path / "raw")
    seen = [(f"{sentence(random.Random(n), 'sea')} {sentence(random.Random(n), 'land')}",) for n in range(100)]
    # The last can be seen, and yet BERT's normaliser leaves nothing of it.
    write_csv(tmp_path / "raw/corpus.csv", ["text"], [*seen, *[("\u200b\u00ad",)] * 50, ("\ufffd",)])
    ran = Ran(tmp_path).make()
    assert ran.record("source", "files-corpus").facts["invisible"] == 50
    assert ran.notes("source", "files-corpus") == ["50 of 151 texts have no visible character and are left out"]
    assert ran.notes("source", "files-task") == []
    assert ran.record("tokens", "files-corpus").facts["without_token"] == 1
    assert ran.notes("tokens", "files-corpus") == ["all 2,200 words are known to the tokenizer", "1 text has no token"]
    corpus = ran.store.get(only(ran.plan, "corpus").ref)
    for name in ("tokens", "heldout"):
        assert Ragged.load(corpus.path(f"{name}.ids.npy"), corpus.path(f"{name}.offsets.npy")).lengths.all()
    with build_memory(ran.store, list(ran.store.records()), STAGES) as connection:
        found = connection.sql(
            "select source, texts, invisible, without_token, unknown_letter_share from texts"
        ).fetchall()
    assert found == [("files-corpus", 101, 50, 1, 0.0), ("files-task", 60, 0, 0, 0.0)]


def test_words_of_any_length_are_known_to_a_vocabulary_trained_on_them(tmp_path: Path) -> None:
    write_mini_data(tmp_path / "raw")
    generator = random.Random(1)
    clauses = [("".join(generator.choices("กขคงจฉชซญฎ", k=generator.randint(20, 300))),) for _ in range(200)]
    write_csv(tmp_path / "raw/corpus.csv", ["text"], clauses)
    ran = Ran(tmp_path).make("source", "tokenizer")
    execute(ran.step("tokens", "files-corpus"), ran.runtime)
    facts = ran.record("tokens", "files-corpus").facts
    assert facts["unknown_words"] == 0 and facts["letters"] == sum(len(text) for (text,) in clauses)


def test_text_that_the_tokenizer_does_not_know_is_refused_before_training_with_the_cause(tmp_path: Path) -> None:
    write_mini_data(tmp_path / "raw")
    write_csv(tmp_path / "raw/task.csv", ["text", "label"], [(f"корабль {n}", "ab"[n % 2]) for n in range(60)])
    ran = Ran(tmp_path).make("source", "tokenizer")
    with pytest.raises(
        UserError, match=r"source files-task: .*% of the letters are unknown .*'корабль' \(60\).* at most 10 %"
    ):
        execute(ran.step("tokens", "files-task"), ran.runtime)
    execute(ran.step("tokens", "files-corpus"), ran.runtime)
    assert ran.record("tokens", "files-corpus").facts["unknown_words"] == 0


def test_a_vocabulary_crowded_with_characters_is_said(tmp_path: Path) -> None:
    write_mini_data(tmp_path / "raw")
    write_csv(tmp_path / "raw/corpus.csv", ["text"], [(" ".join(map(chr, range(0x4E00, 0x4E00 + 400))),)] * 200)
    ran = Ran(tmp_path).make("source", "tokenizer")
    assert "tokens are single characters: raise vocab_size" in ran.notes("tokenizer", "wordpiece")[0]
    write_mini_data(tmp_path / "other/raw")
    assert Ran(tmp_path / "other").make("source", "tokenizer").notes("tokenizer", "wordpiece") == []


def test_a_baseline_that_cannot_be_fitted_is_not_measured_and_the_others_are(tmp_path: Path) -> None:
    write_mini_data(tmp_path / "raw")
    write_csv(tmp_path / "raw/task.csv", ["text", "label"], [("abcdefghil"[n % 10], "xy"[n % 2]) for n in range(60)])
    ran = Ran(tmp_path).make()
    assert ran.notes("baseline", "topics-tfidf") == ["not measured: no training item has a word of two letters"]
    assert ran.notes("baseline", "topics-majority") == []
    with build_memory(ran.store, list(ran.store.records()), STAGES) as connection:
        assert connection.sql("select system from results").fetchall() == [("majority",)]
