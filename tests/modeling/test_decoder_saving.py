"""Decoders are saved and loaded as strictly as encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CLS, LABELS, PAD, batch, build, config_of, small
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2Model,
)

from tlm.errors import UserError
from tlm.modeling import (
    TinyBertForMaskedLM,
    TinyBertForSequenceClassification,
    TinyGptConfig,
    TinyGptForCausalLM,
    TinyGptForSequenceClassification,
)
from tlm.modeling.gpt2 import Gpt2Form
from tlm.modeling.interchange import load_encoder_into_classifier, load_strict, save

AUTO = [
    (TinyGptForCausalLM, AutoModelForCausalLM),
    (TinyGptForSequenceClassification, AutoModelForSequenceClassification),
]
HEADS = [head for head, _ in AUTO]
FIRST = "transformer.h.0.attn.c_attn.weight"


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(*batch()).logits


def rewrite(folder: Path, **changes: Tensor | None) -> None:
    """Change, add, or with None remove weights of a saved model."""
    weights = {**load_file(folder / "model.safetensors"), **changes}
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, folder / "model.safetensors")


@pytest.mark.parametrize(("head", "auto"), AUTO)
def test_round_trip_is_exact_and_auto_classes_know_it(head: type, auto: Any, tmp_path: Path) -> None:
    model = build(head, small("gpt6"))
    save(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors"), "a tied weight is stored once"
    before = torch.get_rng_state()
    again = load_strict(head, tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    assert not again.training
    torch.testing.assert_close(logits(again), logits(model.eval()), atol=0, rtol=0)
    if head is TinyGptForCausalLM:
        assert again.lm_head.weight is again.transformer.wte.weight
    same = {"dtype": None, "_name_or_path": "", "architectures": None}
    assert isinstance(again.config, TinyGptConfig)
    assert again.config.to_dict() | same == model.config.to_dict() | same
    loaded = auto.from_pretrained(tmp_path).eval()
    assert type(loaded) is Gpt2Form.heads[head]
    ids, mask = batch()
    with torch.no_grad():
        theirs = loaded(ids, attention_mask=mask).logits
    kept = mask.bool() if theirs.ndim == 3 else slice(None)
    torch.testing.assert_close(theirs[kept], logits(model)[kept], atol=1e-5, rtol=1e-5)
    body, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(body, GPT2Model) and not info["missing_keys"]
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, GPT2Config)
    assert (config.pad_token_id, config.bos_token_id, config.num_labels) == (PAD, CLS, LABELS)


def test_a_classifier_starts_from_a_language_model(tmp_path: Path) -> None:
    pretrained = build(TinyGptForCausalLM, small("gpt6"))
    save(pretrained, tmp_path)
    classifier = build(TinyGptForSequenceClassification, small("gpt6"), seed=1)
    own = classifier.score.weight.clone()
    load_encoder_into_classifier(classifier, tmp_path)
    theirs = pretrained.state_dict()
    for key, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, own if key == "score.weight" else theirs[key]), key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({FIRST: None}, rf"missing: {FIRST}"),
        ({"transformer.surplus": torch.zeros(2)}, r"unexpected: transformer\.surplus"),
        ({FIRST: torch.zeros(4, 3)}, rf"of another shape: {FIRST} \(3, 4\) instead of \(144, 48\)"),
        ({"transformer.wte.weight": None}, r"missing: transformer\.wte\.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(build(TinyGptForCausalLM, small("gpt1")), tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        load_strict(TinyGptForCausalLM, tmp_path)
    classifier = build(TinyGptForSequenceClassification, small("gpt1"), seed=1).eval()
    before = logits(classifier)
    with pytest.raises(UserError, match=message):
        load_encoder_into_classifier(classifier, tmp_path)
    assert torch.equal(before, logits(classifier)), "nothing is copied unless all fits"


def test_a_language_model_is_no_classifier(tmp_path: Path) -> None:
    save(build(TinyGptForCausalLM, small("gpt1")), tmp_path)
    with pytest.raises(UserError, match=r"missing: score\.weight"):
        load_strict(TinyGptForSequenceClassification, tmp_path)


def test_encoders_and_decoders_are_not_taken_for_each_other(tmp_path: Path) -> None:
    save(build(TinyGptForCausalLM, small("gpt1")), tmp_path / "gpt")
    save(build(TinyBertForMaskedLM, small("bert6")), tmp_path / "bert")
    with pytest.raises(UserError, match="a model of type 'gpt2', not 'bert' or 'tlm_bert'"):
        load_encoder_into_classifier(build(TinyBertForSequenceClassification, small("bert6")), tmp_path / "gpt")
    with pytest.raises(UserError, match="a model of type 'bert', not 'gpt2' or 'tlm_gpt2'"):
        load_encoder_into_classifier(build(TinyGptForSequenceClassification, small("gpt1")), tmp_path / "bert")
    with pytest.raises(UserError, match="a model of type 'bert', not 'gpt2' or 'tlm_gpt2'"):
        load_strict(TinyGptForCausalLM, tmp_path / "bert")


def test_a_pretrained_model_of_another_meaning_is_refused(tmp_path: Path) -> None:
    save(build(TinyGptForCausalLM, small("gpt1")), tmp_path)
    same_shapes = build(TinyGptForSequenceClassification, small("gpt1", num_attention_heads=6, head_size=8))
    with pytest.raises(UserError, match="num_attention_heads=12 there, 6 here"):
        load_encoder_into_classifier(same_shapes, tmp_path)


def test_a_model_of_the_older_form_is_still_read(tmp_path: Path) -> None:
    """As models were saved before transformers could load them by itself."""
    model = build(TinyGptForSequenceClassification, small("gpt1"))
    model.config.save_pretrained(tmp_path)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors"
    )
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "tlm_gpt2"
    again = load_strict(TinyGptForSequenceClassification, tmp_path)
    torch.testing.assert_close(logits(again), logits(model.eval()), atol=0, rtol=0)


@pytest.mark.parametrize("name", ["gpt1", "bert6"])
def test_what_is_no_setting_is_not_saved(name: str, tmp_path: Path) -> None:
    config_of(small(name)).save_pretrained(tmp_path)
    assert "kind" not in json.loads((tmp_path / "config.json").read_text())
