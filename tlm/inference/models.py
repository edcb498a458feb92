"""Labels for new texts, from the artifacts of a study: one fine-tuned model, or a committee of several.

    store = ArtifactStore("data/artifacts")
    committee = Committee.load(store, find_classifiers(store, ["committee/libraries-shallow-ws40000"]))
    committee.predict(["Return the sum of array elements over a given axis."]).best(1)

Shapes: N texts, C labels, M members. `stream` takes any iterable of texts and holds `at_once` of them at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tlm.artifacts.record import Record
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.data.items import names_of_labels
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Tokenizer, load_tokenizer
from tlm.errors import UserError
from tlm.evaluation.committee import RULES, Scores, combine, probabilities
from tlm.inference.finetuned import FinetunedModel
from tlm.study.base import Precision
from tlm.training.finetune import predict as predict_logits

AT_ONCE = 4_096
"""Texts that are tokenised and predicted together: sorted by length, they fill batches with little padding."""

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class TextEncoder:
    """What turns texts into a model's input. Encoders with the same `name` and `max_length` are the same."""

    name: str
    max_length: int
    tokenizer: Tokenizer = field(repr=False, compare=False)

    def __call__(self, texts: Sequence[str]) -> Ragged:
        """Ids of each text, cut to max_length - 2 as the stage `tokens` cuts them."""
        return self.tokenizer.encode(texts, self.max_length - 2)


@dataclass(frozen=True)
class Classifier:
    """A fine-tuned model. `labels[c]` is the name of logit c."""

    name: str
    labels: tuple[str, ...]
    encoder: TextEncoder
    model: PreTrainedModel = field(repr=False)
    precision: Precision = "float32"
    device: str = "cpu"

    @classmethod
    def load(cls, store: ArtifactStore, ref: ArtifactRef, device: str = "cpu") -> Classifier:
        """The model of a finetune, soup or compress artifact, on `device`, with its tokenizer and its task's label names.

        Raises:
            UserError: if that artifact, its tokenizer, its task or its source is missing or damaged.
        """
        artifact = whole(store, ref)
        record, finetuned = artifact.record, FinetunedModel.load(artifact, device)
        task = whole(store, record.inputs["task"])
        return cls(
            name=str(ref),
            labels=_label_names(store, task),
            encoder=_encoder(store, record),
            model=finetuned.model,
            precision=finetuned.precision,
            device=device,
        )

    def logits(self, texts: Iterable[str]) -> Logits:
        """(N, C) float32, in the order of the texts."""
        return _join(list(self.stream(texts)), np.empty((0, len(self.labels)), dtype=np.float32))

    def stream(self, texts: Iterable[str], at_once: int = AT_ONCE) -> Iterator[Logits]:
        """The same in parts of `at_once` texts."""
        return (self.logits_of(self.encoder(chunk)) for chunk in chunks(texts, at_once))

    def logits_of(self, tokens: Ragged) -> Logits:
        """(N, C) for texts that are tokenised already."""
        encoder = self.encoder
        rows = np.arange(len(tokens))
        return predict_logits(
            self.model, tokens, rows, encoder.tokenizer.vocabulary, encoder.max_length, self.precision, self.device
        )


@dataclass(frozen=True)
class Predicted:
    """`scores_NC`, which decide, and `probabilities_NC`, which are shown beside a decision: rows that sum to 1."""

    scores_NC: Scores
    probabilities_NC: Scores

    def best(self, top: int = 1) -> NDArray[np.int64]:
        """(N, top) labels, the best first; of equal ones the lower, as argmax has it."""
        return np.argsort(-self.scores_NC, axis=1, kind="stable")[:, :top]


@dataclass(frozen=True)
class Committee:
    """One or several classifiers with the same labels, combined by one of `tlm.evaluation.committee.RULES`.

    Raises:
        UserError: if there is no member, the labels differ or the rule is unknown.
    """

    members: tuple[Classifier, ...]
    rule: str = "soft"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UserError(f"Unknown rule {self.rule!r}.", f"Choose from {sorted(RULES)}.")
        if not self.members:
            raise UserError("A committee needs a member.", "Name a fine-tuned model.")
        first = self.members[0]
        for member in self.members:
            if member.labels != first.labels:
                raise UserError(
                    f"{member.name} knows other labels than {first.name}.", "Combine models of one task only."
                )

    @classmethod
    def load(
        cls, store: ArtifactStore, refs: Iterable[ArtifactRef], rule: str = "soft", device: str = "cpu"
    ) -> Committee:
        """A committee of finetune artifacts (found by `tlm.inference.resolve`). Raises as Classifier.load."""
        return cls(tuple(Classifier.load(store, ref, device) for ref in refs), rule)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.members[0].labels

    def logits(self, texts: Iterable[str]) -> Logits:
        """(M, N, C) float32: each member's, in the order of `members`."""
        empty = np.empty((len(self.members), 0, len(self.labels)), dtype=np.float32)
        return _join([self._logits(chunk) for chunk in chunks(texts, AT_ONCE)], empty, axis=1)

    def predict(self, texts: Iterable[str]) -> Predicted:
        """Scores and probabilities (N, C) of all the texts."""
        return self._combined(self.logits(texts))

    def stream(self, texts: Iterable[str], at_once: int = AT_ONCE) -> Iterator[tuple[list[str], Predicted]]:
        """Parts of `at_once` texts, each with its predictions."""
        return ((chunk, self._combined(self._logits(chunk))) for chunk in chunks(texts, at_once))

    def _logits(self, texts: list[str]) -> Logits:
        tokens = {encoder: encoder(texts) for encoder in {member.encoder for member in self.members}}
        return np.stack([member.logits_of(tokens[member.encoder]) for member in self.members])

    def _combined(self, logits_MNC: Logits) -> Predicted:
        return Predicted(combine(logits_MNC, self.rule), probabilities(logits_MNC, self.rule))


def chunks(texts: Iterable[str], at_once: int) -> Iterator[list[str]]:
    """Lists of at most `at_once` texts. Raises TypeError for a single string, whose characters are no texts."""
    if isinstance(texts, str):
        raise TypeError("texts is one string; give a list of them")
    iterator = iter(texts)
    while chunk := list(islice(iterator, at_once)):
        yield chunk


def _encoder(store: ArtifactStore, finetuned: Record) -> TextEncoder:
    made = whole(store, finetuned.inputs["tokenizer"])
    return TextEncoder(made.record.key, int(finetuned.config["max_length"]), load_tokenizer(made))


def _label_names(store: ArtifactStore, task: Artifact) -> tuple[str, ...]:
    """Names by the task's own labels: it numbers anew those of its source's labels that it keeps."""
    source = whole(store, task.record.inputs["source"])
    items = pq.read_table(task.path("items.parquet"), columns=["row", "label"]).to_pandas()
    of_source = pq.read_table(source.path("rows.parquet"), columns=["label"])["label"].to_numpy()
    return names_of_labels(items, of_source, source.record.facts["label_names"])


def whole(store: ArtifactStore, ref: ArtifactRef) -> Artifact:
    """The artifact, if it is here and complete. Raises UserError otherwise."""
    found = store.inspect(ref)
    if found.status != "complete" or found.record is None:
        reason = f" ({found.reason})" if found.reason else ""
        raise UserError(f"{ref} is {found.status}{reason}.", "Run its study again: only what is not whole is made.")
    return Artifact(store, found.record)


def _join(parts: list[Logits], empty: Logits, axis: int = 0) -> Logits:
    return np.concatenate(parts, axis=axis) if parts else empty
