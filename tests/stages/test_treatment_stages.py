"""The stages that choose, shuffle, mix and check pre-training sets, on artifacts made by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import vocabulary

from tlm.artifacts.step import Step
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.data.corpus import sample_corpus
from tlm.data.ragged import Ragged
from tlm.data.wordpiece import WordPiece
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.stages import STAGES
from tlm.stages.job import Facts, Job

VOCABULARY = vocabulary(*(f"t{i}" for i in range(30)), "##s", ".")
UNK = VOCABULARY.unk
END = len(VOCABULARY) - 1

generator = np.random.default_rng(0)
SOURCE = Ragged.from_lists(
    [*generator.integers(5, 30, size=8), END, *generator.integers(5, 30, size=3)] for _ in range(40)
)
FOREIGN = Ragged.from_lists([[30, 31 + i % 4] if i % 3 else [] for i in range(12)])


TREATED: dict[str, dict[str, Any]] = {
    "inject": {"kind": "missing_tokens", "task": "t", "ws": 10, "count": 1},
    "shuffle": {"kind": "shuffled", "ws": 10, "scope": "sentence"},
    "mix": {"kind": "foreign", "name": "f", "source": {"kind": "files", "format": "text", "path": "f"}, "own": 1},
}
"""What a study says of a treatment, beside the config of its stage."""


class Bench:
    """A store of small artifacts, and stages run on them."""

    def __init__(self, folder: Path, store: ArtifactStore) -> None:
        self.folder, self.store = folder, store

    def artifact(self, stage: str, write: Callable[[Path], object], **config: Any) -> Artifact:
        config["made"] = len(list(self.store.records()))
        step = Step(stage=stage, version="1", config=config, slug=f"{stage}-by-hand")
        with self.store.lock(step.ref), self.store.draft(step.ref) as draft:
            facts = write(draft)
            self.store.publish(step, draft, facts=facts if isinstance(facts, dict) else {}, provenance={}, seconds=0)
        return self.store.get(step.ref)

    def tokens(self, sequences: Ragged) -> Artifact:
        return self.artifact("tokens", lambda draft: sequences.save(draft, "tokens"))

    def tokenizer(self) -> Artifact:
        return self.artifact("tokenizer", WordPiece(VOCABULARY).save, kind="vocabulary")

    def task(self, parts: list[str]) -> Artifact:
        rows = range(len(parts))
        items = pd.DataFrame({"row": rows, "item_id": [f"i{row}" for row in rows], "label": 0, "part": parts})
        return self.artifact("task", lambda draft: items.to_parquet(draft / "items.parquet"))

    def run(self, stage: str, config: dict[str, Any], **inputs: Artifact) -> tuple[Facts, Made]:
        out = self.folder / f"out-{len(list(self.folder.iterdir()))}"
        out.mkdir()
        access = {"treated": TREATED[stage]} if stage in TREATED else {}
        refs = {name: artifact.record.ref for name, artifact in inputs.items()}
        step = Step(stage=stage, version="1", config=config, inputs=refs, slug=stage, access=access)
        job = Job(step, inputs, out, Runtime(home=str(self.folder)), lambda *_: None)
        return STAGES[stage].of(step).run(job), Made(out)

    def made(self, stage: str, made: Made) -> Artifact:
        """What a stage made, as another one's input."""
        return self.artifact(
            stage, lambda draft: [(draft / f.name).write_bytes(f.read_bytes()) for f in made.out.iterdir()]
        )


class Made:
    def __init__(self, out: Path) -> None:
        self.out = out

    def sequences(self, name: str = "tokens") -> list[list[int]]:
        found = Ragged.load(self.out / f"{name}.ids.npy", self.out / f"{name}.offsets.npy")
        return [found[i].tolist() for i in range(len(found))]

    def rows(self, role: str = "rows") -> list[int]:
        return np.load(self.out / f"{role}.npy", allow_pickle=False).tolist()


@pytest.fixture
def bench(tmp_path: Path, store: ArtifactStore) -> Bench:
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(folder, store)


def at(source: Ragged, rows: list[int] | np.ndarray) -> list[list[int]]:
    return [source[row].tolist() for row in rows]


def plain(bench: Bench, ws: int = 10) -> tuple[Facts, Made]:
    config = {"ws": ws, "heldout": 5, "sampler": "random", "seed": 3}
    return bench.run("corpus", config, tokens=bench.tokens(SOURCE))


# --- corpus ---


def test_a_random_corpus_needs_no_task(bench: Bench) -> None:
    facts, made = plain(bench)
    sample = sample_corpus(SOURCE, ws=10, heldout=5, sampler="random", seed=3)
    assert made.sequences() == at(SOURCE, sample.rows)
    assert made.sequences("heldout") == at(SOURCE, sample.heldout)
    assert [made.rows(), made.rows("heldout_rows"), made.rows("reserve_rows")] == [
        sample.rows.tolist(),
        sample.heldout.tolist(),
        sample.reserve.tolist(),
    ]
    assert facts == {"ws": 10, "heldout": 5, "tokens": 120, "mean_length": 12.0}


def choose(bench: Bench, source: Ragged, task: Ragged, parts: list[str], **config: Any) -> tuple[Facts, Made]:
    return bench.run(
        "corpus",
        {"heldout": 0, "seed": 0, **config},
        tokens=bench.tokens(source),
        tokenizer=bench.tokenizer(),
        task=bench.task(parts),
        task_tokens=bench.tokens(task),
    )


def test_a_corpus_is_chosen_by_training_items_alone(bench: Bench) -> None:
    source = Ragged.from_lists([[5], [6, 7, 8], [9, 10, 11, 12]])
    task = Ragged.from_lists([[9, 10, 11, 12], [5], [6, 7, 8]])
    _, made = choose(bench, source, task, ["test", "train", "dev"], sampler="coverage", ws=1)
    assert made.sequences() == [[5]]


def test_special_tokens_are_no_types_and_stay_in_the_corpus(bench: Bench) -> None:
    source = Ragged.from_lists([[UNK, UNK], [5, UNK, UNK, UNK], [6, 5], [UNK, 7]])
    task = Ragged.from_lists([[UNK, UNK, 5]])
    _, covering = choose(bench, source, task, ["train"], sampler="coverage", ws=2)
    assert sorted(covering.sequences()) == [[5, UNK, UNK, UNK], [6, 5]]
    _, least = choose(bench, source, task, ["train"], sampler="least_overlap", ws=4)
    # All of the words of [5, [UNK] …] are the task's; [[UNK], [UNK]] has none, and is as good as empty.
    assert least.sequences() == [[UNK, 7], [6, 5], [5, UNK, UNK, UNK], [UNK, UNK]]


def test_the_size_of_the_core_is_a_fact_of_a_corpus_that_covers_its_task(bench: Bench) -> None:
    task = Ragged.from_lists([list(range(5, 30))])
    facts, made = choose(bench, SOURCE, task, ["train"], sampler="irrelevant", level=0.5, ws=20)
    core = facts["core"]
    assert isinstance(core, int) and 0 < core <= 20
    assert {i for s in made.sequences()[:core] for i in s} >= set(range(5, 30))
    assert not {i for s in made.sequences()[: core - 1] for i in s} >= set(range(5, 30))
    with pytest.raises(UserError, match=f"Choose Ws from {core} up"):
        choose(bench, SOURCE, task, ["train"], sampler="irrelevant", level=0.5, ws=core - 1)


# --- shuffle ---


@pytest.mark.parametrize("scope", ["sentence", "corpus"])
def test_shuffling_moves_the_samples_words_and_leaves_the_heldout_part(bench: Bench, scope: str) -> None:
    facts, before = plain(bench)
    corpus, tokenizer = bench.made("corpus", before), bench.tokenizer()
    shuffled_facts, after = bench.run("shuffle", {"scope": scope, "seed": 1}, corpus=corpus, tokenizer=tokenizer)
    assert shuffled_facts == facts
    assert after.sequences("heldout") == before.sequences("heldout")
    for role in ("rows", "heldout_rows", "reserve_rows"):
        assert after.rows(role) == before.rows(role)
    assert after.sequences() != before.sequences()
    one, other = (Counter(token for s in made.sequences() for token in s) for made in (before, after))
    assert one == other
    in_place = [s[8] for s in after.sequences()] == [END] * 10
    assert in_place == (scope == "sentence")
    again, differently = (
        bench.run("shuffle", {"scope": scope, "seed": seed}, corpus=corpus, tokenizer=tokenizer)[1] for seed in (1, 2)
    )
    assert after.sequences() == again.sequences() != differently.sequences()


# --- mix ---


def mixed(bench: Bench, own: int, general: int, seed: int = 3) -> tuple[Facts, Made]:
    config = {"own": own, "general": general, "heldout": 5, "seed": seed}
    return bench.run("mix", config, tokens=bench.tokens(SOURCE), foreign=bench.tokens(FOREIGN))


def test_a_mixture_holds_foreign_paragraphs_and_the_studys_sample_of_that_size(bench: Bench) -> None:
    facts, made = mixed(bench, own=4, general=10)
    _, general = plain(bench, ws=10)
    assert made.sequences()[4:] == general.sequences()
    assert made.sequences("heldout") == general.sequences("heldout")
    foreign = at(FOREIGN, range(len(FOREIGN)))
    assert all(len(s) == 2 and s in foreign for s in made.sequences()[:4])
    assert facts == {
        "ws": 14,
        "heldout": 5,
        "tokens": 128,
        "mean_length": pytest.approx(128 / 14),
        "own": 4,
        "general": 10,
    }


def test_foreign_paragraphs_nest_by_seed_and_each_is_drawn_once(bench: Bench) -> None:
    every = mixed(bench, own=8, general=0)[1].sequences()
    assert sorted(every) == sorted(s for s in at(FOREIGN, range(len(FOREIGN))) if s)
    assert mixed(bench, own=3, general=2)[1].sequences()[:3] == every[:3]
    assert mixed(bench, own=8, general=0, seed=4)[1].sequences() != every


def test_the_studys_text_alone_is_its_plain_corpus(bench: Bench) -> None:
    assert mixed(bench, own=0, general=10)[1].sequences() == plain(bench, ws=10)[1].sequences()


def test_more_foreign_paragraphs_than_there_are_with_text_are_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match=r"mix: own=9 .*tokens-by-hand.* 8 of its 12 are not empty.* up to 8\."):
        mixed(bench, own=9, general=0)


# --- duplicates ---


def test_duplicates_are_counted_of_dev_and_test_items(bench: Bench) -> None:
    item = SOURCE[0].tolist()
    task = Ragged.from_lists([item, [*item[:4], 5, 5, 5], [5, 5, 5, 5], item[2:4], item])
    facts, made = bench.run(
        "duplicates",
        {"ngram": 4},
        corpus=bench.tokens(SOURCE.take(np.arange(3))),
        task=bench.task(["train", "test", "test", "dev", "test"]),
        task_tokens=bench.tokens(task),
    )
    assert pd.read_parquet(made.out / "duplicates.parquet").to_dict("list") == {
        "item_id": ["i1", "i2", "i3", "i4"],
        "part": ["test", "test", "dev", "test"],
        "ngrams": [4, 1, 1, 9],
        "hits": [1, 0, 1, 9],
    }
    assert facts == {"test_items": 3, "test_duplicates": 2, "share": pytest.approx(2 / 3)}
