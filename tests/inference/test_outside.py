"""What leaves tlm means the same outside: each model and tokenizer that transformers has, in a process without tlm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import mini_study, only, vocabulary, write_mini_data

from tlm.artifacts.store import ArtifactStore
from tlm.data import wordpiece
from tlm.data.tokenizer import Tokenizer, load_tokenizer
from tlm.data.wordpiece import HubTokenizer, TrainedTokenizer, VocabularyTokenizer, write_vocabulary
from tlm.execution.execute import execute
from tlm.inference.models import Classifier
from tlm.machine.runtime import Runtime
from tlm.modeling.families.base import family_named
from tlm.modeling.interchange import load_strict
from tlm.planning.plan import Plan, plan
from tlm.study.tokenizers import TokenizerConfig

pytestmark = pytest.mark.slow

TEXTS = [
    "The old ship near a harbour.",
    "Every FARMER, every plough",
    "the [SEP] ship [MASK] saw [CLS] the [PAD] deck [UNK]",
    "naïve café İstanbul ß 中文 and a中b 👍🏽 zero\u200bwidth \x00 control",
    "a ship " * 40,
    "x" * 150,
    "##ship ## # 5'3\"",
    "\u0e01" * 12,
]
SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
ARCHITECTURES = [
    {"name": "bert", **SMALL},
    {"name": "habits", **SMALL, "conv_over_padding": True, "freeze_cls_embedding": True},
    {"name": "gpt", "kind": "decoder", **SMALL},
    {"name": "llama", "kind": "llama", **SMALL, "options": {"num_key_value_heads": 1}},
    {"name": "conv", **SMALL, "conv_kernel_sizes": [[3, 3]], "conv_channels": 2},
]
EQUAL = {"bert": "Bert", "habits": "Bert", "gpt": "GPT2", "llama": "Llama"}
"""Architectures that transformers has, and what it calls them."""


@dataclass
class Exported:
    planned: Plan
    store: ArtifactStore
    tokenizers: dict[str, Tokenizer]
    """By folder."""
    found: dict[str, Any]

    def folder(self, stage: str, **labels: object) -> Path:
        step = only(self.planned, stage, **labels)
        return Path(self.store.root) / str(step.ref)


def tokenizers(folder: Path) -> dict[str, Tokenizer]:
    """One of each kind, with letter case and without, saved."""
    texts = ["The old Ship saw THE storm, and every farmer's plough", "café naïve ß 中文"] * 3
    scattered = ("ship", *reversed(vocabulary().tokens), "the", "The", "##s", "plough", "[", "]", "sep", "cls", "中")
    write_vocabulary(scattered, folder / "vocab.txt")
    kinds: list[TokenizerConfig] = []
    for lowercase in (True, False):
        kinds.append(TrainedTokenizer(vocab_size=256, lowercase=lowercase))
        kinds.append(VocabularyTokenizer(path="vocab.txt", lowercase=lowercase))
        kinds.append(HubTokenizer(lowercase=lowercase))
    saved = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wordpiece, "fetch_hub_vocabulary", lambda config: folder / "vocab.txt")
        for number, kind in enumerate(kinds):
            out = folder / f"{kind.kind}-{number}"
            out.mkdir()
            made = kind.make(lambda: texts, str(folder))
            made.save(out)
            saved[str(out)] = made
    return saved


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("outside")
    study = mini_study(
        architectures=ARCHITECTURES,
        corpus__sizes=[0, 60],
        tokenizer={"kind": "wordpiece", "vocab_size": 300, "lowercase": False},
        # Enough of training for texts to be told apart by much more than what rounding does.
        pretrain={"steps": 10, "batch_size": 8, "learning_rate": 1e-2, "precision": "float32"},
        finetune={"epochs": 10, "batch_size": 8, "learning_rate": 1e-2, "precision": "float32"},
        treatments=[],
        treatment_architectures=None,
        committees=[],
    )
    runtime = Runtime(home=str(folder / "home"), data_root=str(write_mini_data(folder / "raw")), isolate=False)
    planned = plan(study, runtime.data_root)
    for step in planned.steps:
        if step.stage not in ("latency", "baseline", "overlap", "duplicates", "committee", "report"):
            execute(step, runtime)
    store = ArtifactStore(runtime.artifacts)
    made = Exported(planned, store, tokenizers(folder), {})
    asked = dict.fromkeys(made.tokenizers, "tokens")
    asked[str(made.folder("tokenizer"))] = "tokens"
    for name in EQUAL:
        asked |= {str(made.folder("finetune", arch=name, ws=ws)): "classes" for ws in (0, 60)}
        asked[str(made.folder("pretrain", arch=name, ws=60))] = "words"
    asked[str(made.folder("finetune", arch="conv", ws=60))] = "refused"
    bare = folder / "bare"  # as beside a tokenizer that has no such files
    bare.mkdir()
    for file in ("config.json", "model.safetensors"):
        (bare / file).write_bytes((made.folder("finetune", arch="gpt", ws=0) / file).read_bytes())
    asked[str(bare)] = "refused"
    done = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).parent / "outside.py")],
        input=json.dumps({"texts": TEXTS, "folders": asked}),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made.found = json.loads(done.stdout)
    made.found["bare"] = made.found.pop(str(bare))
    return made


def test_every_kind_of_tokenizer_gives_the_same_ids(exported: Exported) -> None:
    inside = {**exported.tokenizers}
    for folder, tokenizer in inside.items():
        own, ids = tokenizer.vocabulary, tokenizer.encode(TEXTS)
        expected = [[own.cls, *ids[index].tolist(), own.sep] for index in range(len(TEXTS))]
        found = exported.found[folder]
        assert found["auto"] == found["raw"] == expected, folder
        # BertTokenizer makes its own of the vocabulary: it knows nothing of long words that are cut.
        known = [i for i, text in enumerate(TEXTS) if max(map(len, text.split())) <= 100]
        assert len(known) > 5 and [found["bert"][i] for i in known] == [expected[i] for i in known], folder
        assert found["special"] == own.special and found["size"] == len(own), folder


@pytest.mark.parametrize("ws", [0, 60])
@pytest.mark.parametrize("arch", EQUAL)
def test_every_classifier_gives_the_labels_and_probabilities_of_tlm_predict(
    exported: Exported, arch: str, ws: int
) -> None:
    classifier = Classifier.load(exported.store, only(exported.planned, "finetune", arch=arch, ws=ws).ref)
    expected = torch.from_numpy(classifier.logits(TEXTS)).softmax(-1).numpy()
    assert np.ptp(expected[:, 0]) > 1e-3, "texts are told apart by much more than what is compared"
    found = exported.found[str(exported.folder("finetune", arch=arch, ws=ws))]
    assert found["type"] == f"{EQUAL[arch]}ForSequenceClassification"
    assert tuple(found["names"]) == classifier.labels == ("land", "sea")
    assert found["label2id"] == {"land": 0, "sea": 1}
    for way in found["probabilities"]:  # in a batch, by the class of that name, one by one, and in the pipeline
        np.testing.assert_allclose(way, expected, atol=1e-5)


@pytest.mark.parametrize("arch", EQUAL)
def test_every_language_model_gives_the_same_logits(exported: Exported, arch: str) -> None:
    folder = exported.folder("pretrain", arch=arch, ws=60)
    kind, theirs = {"gpt": ("decoder", "GPT2LMHeadModel"), "llama": ("llama", "LlamaForCausalLM")}.get(
        arch, ("encoder", "BertForMaskedLM")
    )
    model: Any = load_strict(family_named(kind).language_model, folder)
    tokenizer = load_tokenizer(exported.store.get(only(exported.planned, "tokenizer").ref))
    own = tokenizer.vocabulary
    found = exported.found[str(folder)]
    assert found["type"] == theirs
    for text, last in zip(TEXTS, found["logits"], strict=True):
        ids = torch.tensor([[own.cls, *tokenizer.encode([text], 14)[0].tolist(), own.sep]])
        with torch.no_grad():
            np.testing.assert_allclose(model(ids).logits[0, -1], last, atol=1e-4)


def test_what_transformers_does_not_have_is_refused_there_and_not_taken_for_something_else(exported: Exported) -> None:
    conv = exported.found[str(exported.folder("finetune", arch="conv", ws=60))]["errors"]
    assert "tlm_bert" in conv[0] and not conv[1], "a model with a convolutional front; its tokenizer is there"
    model, tokenizer = exported.found["bare"]["errors"]
    assert not model and tokenizer, "a model without its tokenizer's files has none, rather than another"
