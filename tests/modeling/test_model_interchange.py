"""Saving and strict loading."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import batch, build, small
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
)

from tlm.errors import UserError
from tlm.modeling import TinyBertForMaskedLM, TinyBertForSequenceClassification, TinyBertModel
from tlm.modeling.interchange import load_encoder_into_classifier, load_strict, name_labels, save

HEADS = [TinyBertForMaskedLM, TinyBertForSequenceClassification]
QUERY = "bert.encoder.layer.0.attention.self.query.weight"


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model(*batch()).logits


@pytest.mark.parametrize("head", HEADS)
def test_round_trip_is_exact(head: type, name: str, tmp_path: Path) -> None:
    model = build(head, small(name))
    model(*batch())  # in train mode: moves the running statistics
    save(model, tmp_path / "new" / "folder")
    before = torch.get_rng_state()
    again = load_strict(head, tmp_path / "new" / "folder")
    assert torch.equal(before, torch.get_rng_state()), "loading draws no random number"
    assert not again.training
    torch.testing.assert_close(logits(again), logits(model.eval()), atol=0, rtol=0)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    if head is TinyBertForMaskedLM:
        assert again.cls.predictions.decoder.weight is again.bert.embeddings.word_embeddings.weight
        assert again.cls.predictions.decoder.bias is again.cls.predictions.bias
        assert not any("decoder" in key for key in load_file(tmp_path / "new" / "folder" / "model.safetensors"))


def test_the_folder_holds_two_files_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    model = build(TinyBertForMaskedLM, small("bert1b"))
    for copy in ("a", "b"):
        save(model, tmp_path / copy)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


OURS = (TinyBertForMaskedLM, TinyBertForSequenceClassification, TinyBertModel)
THEIRS = (BertForMaskedLM, BertForSequenceClassification, BertModel)


@pytest.mark.parametrize(("arch", "classes"), [("bert1a", THEIRS), ("bert1b", OURS)])
def test_auto_classes_load_the_models_as_transformers_own_where_it_has_them(
    arch: str, classes: tuple[type, ...], tmp_path: Path
) -> None:
    mlm, classifier = (build(head, small(arch)).eval() for head in HEADS)
    save(mlm, tmp_path / "mlm")
    save(classifier, tmp_path / "classifier")
    rounding = {"atol": 1e-5, "rtol": 1e-5} if classes is THEIRS else {"atol": 0, "rtol": 0}
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "mlm").eval()
    assert type(loaded) is classes[0]
    torch.testing.assert_close(logits(loaded), logits(mlm), **rounding)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier").eval()
    assert type(loaded) is classes[1]
    torch.testing.assert_close(logits(loaded), logits(classifier), **rounding)
    encoder, info = AutoModel.from_pretrained(tmp_path / "classifier", output_loading_info=True)
    assert type(encoder) is classes[2]
    assert not info["missing_keys"]
    ids, mask = batch()
    with torch.no_grad():
        state = encoder(ids, mask).last_hidden_state[mask.bool()]
        own = classifier.bert(ids, mask).last_hidden_state[mask.bool()]
        torch.testing.assert_close(state, own, **rounding)


@pytest.mark.parametrize("habits", [{}, {"conv_over_padding": True, "freeze_cls_embedding": True}])
@pytest.mark.parametrize("head", HEADS)
def test_what_transformers_does_not_know_is_kept_for_us(head: type, habits: dict[str, bool], tmp_path: Path) -> None:
    """The configuration is ours again, what only training looks at included."""
    model = build(head, small("bert6", **habits))
    name_labels(model, ["one", "two ", "drei", "四", "5"])
    save(model, tmp_path)
    again = load_strict(head, tmp_path)
    same = {"dtype": None, "architectures": None, "_name_or_path": ""}
    assert again.config.to_dict() | same == model.config.to_dict() | same
    assert again.config.id2label[3] == "四" and again.config.label2id["two "] == 1


def test_a_configuration_that_means_something_else_in_transformers_keeps_its_own_name(tmp_path: Path) -> None:
    for number, change in enumerate(({"hidden_act": "relu"}, {"is_decoder": True})):
        model = build(TinyBertForMaskedLM, small("bert6"))
        for name, value in change.items():
            setattr(model.config, name, value)
        save(model, tmp_path / str(number))
        assert json.loads((tmp_path / str(number) / "config.json").read_text())["model_type"] == "tlm_bert"


def _drop(weights: dict[str, Tensor]) -> None:
    del weights[QUERY]


def _add(weights: dict[str, Tensor]) -> None:
    weights["bert.surplus.weight"] = torch.zeros(2)


def _reshape(weights: dict[str, Tensor]) -> None:
    weights[QUERY] = weights[QUERY][:-1].clone()


DAMAGE = [
    (_drop, f"missing: {QUERY}"),
    (_add, r"unexpected: bert\.surplus\.weight"),
    (_reshape, rf"of another shape: {QUERY} \(47, 48\) instead of \(48, 48\)"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_weights_that_do_not_fit_are_named(damage: Callable, message: str, tmp_path: Path) -> None:
    save(build(TinyBertForMaskedLM, small("bert1b")), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    damage(weights)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_strict(TinyBertForMaskedLM, tmp_path)
    classifier = build(TinyBertForSequenceClassification, small("bert1b"), seed=1)
    before = logits(classifier.eval())
    with pytest.raises(UserError, match=message):
        load_encoder_into_classifier(classifier, tmp_path)
    assert torch.equal(before, logits(classifier)), "nothing is copied unless all fits"


def test_another_head_does_not_fit(tmp_path: Path) -> None:
    save(build(TinyBertForMaskedLM, small("bert6")), tmp_path)
    with pytest.raises(UserError, match=r"missing: bert\.pooler\.dense\.weight.*unexpected: cls\.predictions\.bias"):
        load_strict(TinyBertForSequenceClassification, tmp_path)


def test_absent_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        load_strict(TinyBertForMaskedLM, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not a model configuration"):
        load_strict(TinyBertForMaskedLM, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(UserError, match="a model of type 't5', not 'bert' or 'tlm_bert'"):
        load_strict(TinyBertForMaskedLM, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_act": "relu"}))
    with pytest.raises(UserError, match="BERT with hidden_act='relu' has no counterpart here"):
        load_strict(TinyBertForMaskedLM, tmp_path)
    save(build(TinyBertForMaskedLM, small("bert1c")), tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_strict(TinyBertForMaskedLM, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: no such file"):
        load_strict(TinyBertForMaskedLM, tmp_path)


def test_encoder_into_classifier(name: str, tmp_path: Path) -> None:
    mlm = build(TinyBertForMaskedLM, small(name))
    save(mlm, tmp_path)
    classifier = build(TinyBertForSequenceClassification, small(name), seed=1)
    own = {k: v.clone() for k, v in classifier.state_dict().items() if k.startswith(("bert.pooler.", "classifier."))}
    load_encoder_into_classifier(classifier, tmp_path)
    pretrained = mlm.state_dict()
    for key, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, own[key] if key in own else pretrained[key]), key


def test_a_pretrained_model_of_another_meaning_is_refused(tmp_path: Path) -> None:
    save(build(TinyBertForMaskedLM, small("bert6")), tmp_path)
    same_shapes = build(TinyBertForSequenceClassification, small("bert6", num_attention_heads=6, head_size=8))
    with pytest.raises(UserError, match="num_attention_heads=12 there, 6 here"):
        load_encoder_into_classifier(same_shapes, tmp_path)
    deeper = build(TinyBertForSequenceClassification, small("bert6", num_hidden_layers=7))
    with pytest.raises(UserError, match=r"missing: bert\.encoder\.layer\.6\..* and 8 more"):
        load_encoder_into_classifier(deeper, tmp_path)
