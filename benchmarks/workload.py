"""The text that every contender runs on: real paragraphs or task items, read and tokenised once, kept in a folder.

The measured processes load only that folder: reading Wikipedia would be the peak memory of each of them, and a machine
that has the folder needs neither the source files nor what reads them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlm.data.ragged import Ragged, Rows
from tlm.errors import UserError

if TYPE_CHECKING:
    from tlm.data.wordpiece import WordPiece

ITEMS = 4_096
"""The most items kept of a source."""
VOCABULARY_PARAGRAPHS = 20_000
"""Paragraphs that the small WordPiece vocabulary is trained on."""
SEED = 0


@dataclass(frozen=True)
class Workload:
    """Tokenised items. No [CLS], [SEP] or [PAD] is stored; `labels` are all zero where the source has none."""

    folder: Path
    tokens: Ragged
    labels: NDArray[np.int64]
    num_labels: int
    vocabulary: tuple[str, ...]

    @property
    def vocabulary_file(self) -> Path:
        return self.folder / "vocab.txt"

    def id_of(self, token: str) -> int:
        return self.vocabulary.index(token)

    def batches(self, start: int, count: int, batch_size: int) -> list[Rows]:
        """Batches number `start` to `start + count - 1` of an endless walk through the items, each of them full."""
        first = start * batch_size
        rows = np.arange(first, first + count * batch_size, dtype=np.int64) % len(self.tokens)
        return list(rows.reshape(count, batch_size))

    def real_lengths(self, rows: Rows, max_length: int) -> Rows:
        """Real tokens of each item, [CLS] and [SEP] counted."""
        return np.minimum(self.tokens.lengths[rows], max_length - 2) + 2

    def real_tokens(self, batches: Sequence[Rows], max_length: int) -> int:
        return int(self.real_lengths(np.concatenate(batches), max_length).sum())

    def save(self) -> None:
        """Write everything to `folder`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokens.save(self.folder, "tokens")
        np.save(self.folder / "labels.npy", self.labels)
        np.save(self.folder / "num_labels.npy", np.array(self.num_labels))
        self.vocabulary_file.write_text("".join(f"{token}\n" for token in self.vocabulary), encoding="utf-8")


def load(folder: Path) -> Workload:
    """A saved workload, in memory. Raises UserError if `folder` holds none."""

    def array(name: str) -> Any:
        return np.load(folder / f"{name}.npy", allow_pickle=False)

    try:
        vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
        tokens = Ragged(array("tokens.ids"), array("tokens.offsets"))
        return Workload(folder, tokens, array("labels"), int(array("num_labels")), tuple(vocabulary))
    except FileNotFoundError as error:
        raise UserError(f"No prepared workload: {error.filename} is missing.", "Leave --workloads out.") from None


def prepare(name: str, folder: Path, max_length: int) -> Workload:
    """Read, sample and tokenise the workload `name` (a key of `WORKLOADS`) from TLM_DATA_ROOT, and save it.

    Raises:
        UserError: TLM_DATA_ROOT is not set, or what is missing or wrong under it.
    """
    data_root = os.environ.get("TLM_DATA_ROOT", "")
    if not data_root:
        raise UserError(
            "TLM_DATA_ROOT is not set, and the benchmark runs on real text.",
            "Set it to a folder in the layout of data/README.md, or give --workloads.",
        )
    source, tokenizer_of = WORKLOADS[name]
    texts, labels, num_labels = _read(source, data_root)
    tokenizer = tokenizer_of(texts, data_root)
    rows = np.random.default_rng(SEED).permutation(len(texts))[:ITEMS]
    tokens = tokenizer.encode([texts[row] for row in rows], max_length - 2)
    workload = Workload(folder, tokens, labels[rows], num_labels, tokenizer.vocabulary.tokens)
    workload.save()
    return workload


def _read(source: dict[str, str], data_root: str) -> tuple[list[str], NDArray[np.int64], int]:
    """Texts, labels and number of labels of what the source has besides its test part."""
    from pydantic import TypeAdapter

    from tlm.data.sources import read
    from tlm.study.sources import Source

    loaded = read(TypeAdapter[Any](Source).validate_python({**source, "origin": "local"}), data_root)
    frame = loaded.table.to_pandas()
    frame = frame[frame["split"] != "test"]
    labels = frame["label"].to_numpy() if loaded.label_names else np.zeros(len(frame))
    return frame["text"].tolist(), labels.astype(np.int64), len(loaded.label_names or ())


def _bert(texts: list[str], data_root: str) -> WordPiece:
    """With the vocabulary of bert-base-uncased, under the data root."""
    from tlm.data.wordpiece import VocabularyTokenizer

    return VocabularyTokenizer().make(lambda: texts, data_root)


def _small(texts: list[str], data_root: str) -> WordPiece:
    """Of tlm's default size, trained on the first paragraphs."""
    from tlm.data.wordpiece import TrainedTokenizer

    return TrainedTokenizer().make(lambda: texts[:VOCABULARY_PARAGRAPHS], data_root)


WORKLOADS: dict[str, tuple[dict[str, str], Callable[[list[str], str], WordPiece]]] = {
    "wikipedia": ({"kind": "wikipedia"}, _bert),
    "wikipedia-8192": ({"kind": "wikipedia"}, _small),
    "few_rel": ({"kind": "few_rel", "file": "val_wiki.json"}, _bert),
    "ag_news": ({"kind": "ag_news"}, _bert),
    "dbpedia": ({"kind": "dbpedia_14"}, _bert),
}
