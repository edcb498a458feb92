"""A kind of tokenizer is one class: this one is of bytes, has no vocabulary file and no [UNK], and is known here alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pytest
from helpers import mini_study, mini_tree, only
from numpy.typing import NDArray

from tlm.artifacts.store import ArtifactStore
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary, load_tokenizer
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.inference.models import Classifier
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan
from tlm.planning.preflight import check
from tlm.study.config import StudyConfig
from tlm.study.tokenizers import TokenizerConfig

SPECIAL = ("<pad>", "<cls>", "<sep>", "<mask>")
SIZE = len(SPECIAL) + 256


class Bytes:
    """The bytes of a text, as UTF-8. A space belongs to the word that it is before."""

    vocabulary = Vocabulary((*SPECIAL, *(f"<{byte:02x}>" for byte in range(256))), pad=0, cls=1, sep=2, mask=3)

    @property
    def begins_word(self) -> NDArray[np.bool_]:
        return np.arange(SIZE) == len(SPECIAL) + ord(" ")

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> Ragged:
        return Ragged.from_lists([len(SPECIAL) + byte for byte in text.encode()[:max_length]] for text in texts)

    def save(self, folder: Path) -> dict[str, Any]:
        return {"vocab_size": SIZE}


@pytest.fixture(scope="module")
def kind() -> Iterator[type[TokenizerConfig]]:
    class BytesTokenizer(TokenizerConfig):
        kind: Literal["octets"] = "octets"
        special_tokens: ClassVar[frozenset[str]] = frozenset({"pad", "cls", "sep", "mask"})

        def vocabulary_size(self, data_root: str) -> tuple[int, str]:
            return SIZE, ""

        def make(self, texts: Callable[[], Iterable[str]], data_root: str) -> Bytes:
            return Bytes()

        @classmethod
        def load(cls, path_of: Callable[[str], Path], facts: Mapping[str, Any]) -> Bytes:
            return Bytes()

    yield BytesTokenizer
    TokenizerConfig.registry._things.pop("octets")


TREATMENTS = [
    {"kind": "shuffled", "ws": 120, "scope": "corpus"},
    {"kind": "missing_tokens", "task": "topics", "ws": 120, "count": 3, "removal": "delete"},
]


@pytest.fixture
def study(kind: type[TokenizerConfig]) -> StudyConfig:
    small = {"corpus__sizes": [0, 120], "architectures": mini_tree()["architectures"][:1], "committees": []}
    return mini_study(tokenizer={"kind": "octets"}, treatments=TREATMENTS, **small)


def run(planned: Plan, runtime: Runtime) -> ArtifactStore:
    for step in planned.steps:
        if step.stage not in ("latency", "baseline", "report"):
            execute(step, runtime)
    return ArtifactStore(runtime.artifacts)


def words(tokens: Ragged) -> list[bytes]:
    return [
        word for i in range(len(tokens)) for word in bytes(tokens[i] - len(SPECIAL)).replace(b" ", b"\0 ").split(b"\0")
    ]


def test_a_study_goes_through_every_stage_with_a_tokenizer_from_outside(
    study: StudyConfig, mini_data: Path, tmp_path: Path
) -> None:
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), device="cpu", isolate=False)
    planned = check(study, runtime)
    store = run(planned, runtime)
    tokenizer = store.get(only(planned, "tokenizer").ref)
    assert tokenizer.record.config == {"kind": "octets"} and tokenizer.record.inputs == {}
    assert tokenizer.record.outputs == {} and tokenizer.record.facts == {"vocab_size": SIZE}
    assert isinstance(load_tokenizer(tokenizer), Bytes)

    plain, shuffled = (store.get(only(planned, stage, ws=120).ref) for stage in ("corpus", "shuffle"))
    whole, moved = (Ragged.load(a.path("tokens.ids.npy"), a.path("tokens.offsets.npy")) for a in (plain, shuffled))
    assert whole.ids.min() >= len(SPECIAL) and whole.lengths.max() == study.max_length - 2
    assert words(whole) != words(moved) and sorted(words(whole)) == sorted(words(moved))
    counts = pd.read_parquet(
        store.get(only(planned, "overlap", ws=120, treatment=None).ref).path("token_counts.parquet")
    )
    assert counts.set_index("token").loc["<65>", "corpus_count"] == int((whole.ids == len(SPECIAL) + ord("e")).sum())
    removed = pd.read_parquet(store.get(only(planned, "inject").ref).path("removed.parquet"))
    assert len(removed) == 3 and set(removed["token"]) <= set(counts["token"])
    classifier = Classifier.load(store, only(planned, "finetune", ws=120, treatment=None).ref)
    assert classifier.logits(["the old ship saw a storm", "é"]).shape == (2, 2)


def test_a_study_that_needs_a_token_which_the_tokenizer_lacks_is_refused_before_any_work(
    study: StudyConfig, mini_data: Path, tmp_path: Path
) -> None:
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), device="cpu")
    with pytest.raises(UserError, match=r"tokenizer: kind octets has no \[UNK\], which the study needs"):
        check(mini_study(tokenizer="octets"), runtime)
    assert not Path(runtime.home).exists()


def test_an_unknown_kind_is_refused_with_those_that_exist(kind: type[TokenizerConfig]) -> None:
    with pytest.raises(
        ValueError, match=r"unknown tokenizer 'syllables'; choose from \['bytes', 'hub', 'octets', 'vocabulary'"
    ):
        mini_study(tokenizer={"kind": "syllables"})


def test_a_special_token_that_is_not_there_cannot_be_asked_for() -> None:
    assert Bytes.vocabulary.special_ids == (0, 1, 2, 3) and Bytes.vocabulary.mask == 3
    with pytest.raises(UserError, match=r"has no \[UNK\] token, and one is needed"):
        _ = Bytes.vocabulary.unk


def test_the_form_of_a_study_offers_every_kind_with_its_fields(kind: type[TokenizerConfig]) -> None:
    """The Prefect UI draws it from the schema of the study's model."""
    offered = StudyConfig.model_json_schema()["$defs"]["TokenizerConfig"]["oneOf"]
    fields = {each["properties"]["kind"]["const"]: set(each["properties"]) for each in offered}
    assert fields.keys() >= {"vocabulary", "hub", "wordpiece"}
    assert fields["wordpiece"] == {"kind", "vocab_size", "limit_alphabet", "lowercase"}
