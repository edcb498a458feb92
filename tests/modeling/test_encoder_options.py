"""Encoders whose options are not BERT's: they compute what a plain implementation does, and are taken for nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import mini_study, numbered_vocabulary
from pydantic import ValidationError
from tiny_models import CLS, LABELS, PAD, POSITIONS, VOCAB, batch, build, mlm_labels, small
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tlm.data.ragged import Ragged
from tlm.errors import UserError
from tlm.modeling import TinyBertForMaskedLM, TinyBertForSequenceClassification
from tlm.modeling import interchange as ic
from tlm.modeling.bert import to_transformers_mlm
from tlm.modeling.cost import classifier_flops, count_parameters, expected_parameters, language_model_flops
from tlm.modeling.layers import RmsNorm
from tlm.modeling.options import EncoderOptions
from tlm.modeling.packing import pack
from tlm.study.architecture import Architecture

B = {
    "norm_position": "pre",
    "norm": "rms_norm",
    "position_embedding_type": "rope",
    "rope_theta": 1_000.0,
    "bias": False,
    "attention_head_size": 6,
}
COMBINATIONS: list[dict[str, Any]] = [
    {},
    B,
    {"norm_position": "pre"},
    {"norm": "rms_norm", "bias": True},
    {"position_embedding_type": "rope"},
    {"bias": False},
    {"attention_head_size": 3},
    {**B, "norm": "layer_norm", "bias": True},
]
IDS = [",".join(map(str, options.values())) or "bert" for options in COMBINATIONS]


def arch_of(options: dict[str, Any], **fields: Any) -> Architecture:
    return small("bert6", num_hidden_layers=2, num_attention_heads=4, options=options, **fields)


# --- a plain implementation, one sequence at a time, from the weights by their names ---


class Plain:
    def __init__(self, model: Any, options: dict[str, Any]) -> None:
        self.weights = dict(model.named_parameters())
        self.config, self.options = model.config, EncoderOptions(**options)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", torch.zeros(()))

    def norm(self, name: str, x: Tensor) -> Tensor:
        eps = self.config.layer_norm_eps
        if self.options.norm == "layer_norm":
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
        return x * self.weights[f"{name}.weight"] + self.weights.get(f"{name}.bias", torch.zeros(()))

    def turned(self, x_THK: Tensor) -> Tensor:
        if self.options.position_embedding_type == "absolute":
            return x_THK
        first, second = x_THK.chunk(2, dim=-1)
        angle = [
            [t / self.options.rope_theta ** (2 * i / x_THK.shape[-1]) for i in range(first.shape[-1])]
            for t in range(len(x_THK))
        ]
        turn_T1K = torch.polar(torch.ones(()), torch.tensor(angle))[:, None]
        z = torch.complex(first, second) * turn_T1K
        return torch.cat([z.real, z.imag], dim=-1)

    def attended(self, name: str, x_TD: Tensor) -> Tensor:
        parts = (self.linear(f"{name}.{part}", x_TD) for part in ("query", "key", "value"))
        q, k, v = (part.view(len(x_TD), self.config.num_attention_heads, -1) for part in parts)
        scores = torch.einsum("ihk,jhk->hij", self.turned(q), self.turned(k)) / math.sqrt(q.shape[-1])
        return torch.einsum("hij,jhk->ihk", scores.softmax(-1), v).flatten(1)

    def encoded(self, ids_T: Tensor) -> Tensor:
        x = self.weights["bert.embeddings.word_embeddings.weight"][ids_T]
        if self.options.position_embedding_type == "absolute":
            x = x + self.weights["bert.embeddings.position_embeddings.weight"][: len(ids_T)]
        x = self.norm("bert.embeddings.LayerNorm", x + self.weights["bert.embeddings.token_type_embeddings.weight"][0])
        for i in range(self.config.num_hidden_layers):
            name = f"bert.encoder.layer.{i}"
            if self.options.norm_position == "pre":
                y = self.attended(f"{name}.attention.self", self.norm(f"{name}.attention.LayerNorm", x))
                x = x + self.linear(f"{name}.attention.output.dense", y)
                y = self.linear(f"{name}.intermediate.dense", self.norm(f"{name}.intermediate.LayerNorm", x))
                x = x + self.linear(f"{name}.output.dense", F.gelu(y))
            else:
                y = self.linear(f"{name}.attention.output.dense", self.attended(f"{name}.attention.self", x))
                x = self.norm(f"{name}.attention.output.LayerNorm", x + y)
                y = self.linear(f"{name}.output.dense", F.gelu(self.linear(f"{name}.intermediate.dense", x)))
                x = self.norm(f"{name}.output.LayerNorm", x + y)
        return self.norm("bert.LayerNorm", x) if self.options.norm_position == "pre" else x

    def words(self, ids_T: Tensor) -> Tensor:
        """Logits (T, V)."""
        x = F.gelu(self.linear("cls.predictions.transform.dense", self.encoded(ids_T)))
        x = self.norm("cls.predictions.transform.LayerNorm", x)
        return x @ self.weights["bert.embeddings.word_embeddings.weight"].T + self.weights["cls.predictions.bias"]

    def labels(self, ids_T: Tensor) -> Tensor:
        """Logits (L,)."""
        return self.linear("classifier", torch.tanh(self.linear("bert.pooler.dense", self.encoded(ids_T)[0])))


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(
            tensor, expected[name], rtol=1e-3, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("options", COMBINATIONS, ids=IDS)
def test_the_language_model_and_its_gradients_are_the_plain_ones(options: dict[str, Any]) -> None:
    model = build(TinyBertForMaskedLM, arch_of(options))
    ids, mask = batch()
    labels = mlm_labels(ids, mask)
    found = gradients(model, model(input_ids=ids, attention_mask=mask, labels=labels).loss)
    plain = Plain(model, options)
    logits = [plain.words(ids[row, : mask[row].sum()]) for row in range(len(ids))]
    shown = model(input_ids=ids, attention_mask=mask).logits
    for row, each in enumerate(logits):
        torch.testing.assert_close(shown[row, : len(each)], each, rtol=1e-4, atol=1e-4)
    flat_labels = torch.cat([labels[row, : len(each)] for row, each in enumerate(logits)])
    assert_equal(found, gradients(model, F.cross_entropy(torch.cat(logits), flat_labels)))


@pytest.mark.parametrize("options", COMBINATIONS, ids=IDS)
@pytest.mark.parametrize("rectangle_cost", [-1, 0, 10_000])
def test_the_classifier_is_the_plain_one_in_every_layout(options: dict[str, Any], rectangle_cost: int) -> None:
    model = build(TinyBertForSequenceClassification, arch_of(options))
    vocabulary = numbered_vocabulary(VOCAB)
    texts = Ragged.from_lists([range(6, 6 + n) for n in (3, 9, 1, 9, 5)])
    packed = pack(texts, torch.arange(5).numpy(), vocabulary, POSITIONS, rectangle_cost)
    targets = torch.arange(5) % LABELS
    found = gradients(model, model.loss(packed.ids_R, packed.layout, targets[packed.order_B]))
    plain = Plain(model, options)
    whole = [[vocabulary.cls, *texts[i].tolist(), vocabulary.sep] for i in range(5)]
    logits = torch.stack([plain.labels(torch.tensor(ids)) for ids in whole])
    shown = model.logits(packed.ids_R, packed.layout)
    torch.testing.assert_close(shown, logits[packed.order_B], rtol=1e-4, atol=1e-4)
    assert_equal(found, gradients(model, F.cross_entropy(logits, targets)))


def test_the_norm_is_torchs_and_in_float32_under_autocast() -> None:
    ours, theirs = RmsNorm(16, eps=1e-6), torch.nn.RMSNorm(16, eps=1e-6)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.normal_())
    x, y = (torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    gradient = torch.randn(3, 5, 16)
    for norm, of in ((ours, x), (theirs, y)):
        norm(of).backward(gradient)
    torch.testing.assert_close(ours(x), theirs(y))
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("options", COMBINATIONS, ids=IDS)
def test_a_model_in_bfloat16_learns_with_every_option(options: dict[str, Any]) -> None:
    model = build(TinyBertForMaskedLM, arch_of(options))
    ids, mask = batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, attention_mask=mask, labels=mlm_labels(ids, mask)).loss
    exact = model(input_ids=ids, attention_mask=mask, labels=mlm_labels(ids, mask)).loss
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(grad.isfinite().all() for grad in gradients(model, loss).values())


# --- what it costs, and what it is taken for ---


@pytest.mark.parametrize("options", COMBINATIONS, ids=IDS)
def test_parameters_and_flops_are_those_that_torch_counts(options: dict[str, Any]) -> None:
    arch, sizes = arch_of(options), {"vocab_size": VOCAB, "max_position_embeddings": POSITIONS}
    mlm, classifier = (build(head, arch).eval() for head in (TinyBertForMaskedLM, TinyBertForSequenceClassification))
    for shape in (arch, mlm.config):
        assert count_parameters(mlm) == expected_parameters(shape, **sizes)
        assert count_parameters(classifier) == expected_parameters(shape, **sizes, num_labels=LABELS)
    ids, labels = torch.full((1, 10), CLS), torch.full((1, 10), -100)
    labels[0, [2, 5, 6]] = 7
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        mlm(input_ids=ids, labels=labels)
    # The loss computes its gradients on the way: two products more of N × D × V.
    assert counter.get_total_flops() == pytest.approx(language_model_flops(arch, 10, 3, VOCAB), rel=0.02)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        classifier(input_ids=ids)
    assert counter.get_total_flops() == classifier_flops(arch, 10, LABELS)


@pytest.mark.parametrize("options", COMBINATIONS, ids=IDS)
def test_saved_models_come_back_and_only_what_differs_from_bert_is_in_their_configuration(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = build(TinyBertForSequenceClassification, arch_of(options)).eval()
    ic.save(model, tmp_path)
    back = ic.load_strict(TinyBertForSequenceClassification, tmp_path)
    ids, mask = batch()
    assert torch.equal(back(ids, mask).logits, model(ids, mask).logits)
    saved = json.loads((tmp_path / "config.json").read_text())
    unusual = {name: value for name, value in options.items() if value != getattr(EncoderOptions(), name)}
    assert {name: saved[name] for name in saved if name in EncoderOptions.model_fields} == unusual


@pytest.mark.parametrize(("name", "value"), list(B.items()))
def test_transformers_bert_is_not_what_it_is_and_a_classifier_must_mean_the_same(
    name: str, value: Any, tmp_path: Path
) -> None:
    changed = build(TinyBertForMaskedLM, arch_of({name: value}))
    with pytest.raises(UserError, match=rf"transformers' BERT has no {name}={value!r}: it is always"):
        to_transformers_mlm(changed)
    ic.save(changed, tmp_path)
    classifier = build(TinyBertForSequenceClassification, arch_of({}))
    with pytest.raises(UserError, match=f"pre-trained with another architecture: {name}="):
        ic.load_encoder_into_classifier(classifier, tmp_path)
    same = build(TinyBertForSequenceClassification, arch_of({name: value}))
    ic.load_encoder_into_classifier(same, tmp_path)
    assert torch.equal(same.get_input_embeddings().weight, changed.get_input_embeddings().weight)


def test_options_are_read_at_their_default_change_no_key_and_belong_to_encoders() -> None:
    bert = arch_of({})
    assert "options" not in bert.identity()
    assert bert.identity() == arch_of(dict(EncoderOptions())).identity()
    assert arch_of(B).identity()["options"] == B
    again = mini_study(architectures__0__options=B)
    assert type(again).model_validate_json(again.model_dump_json()).architectures[0].options == EncoderOptions(**B)
    with pytest.raises(ValidationError, match="rope turns pairs of numbers, and a head has 3 of them"):
        small("bert1", head_size=3, options={"position_embedding_type": "rope"})
    with pytest.raises(ValidationError, match="does not divide hidden_size"):
        Architecture.model_validate({**arch_of({}).model_dump(), "num_attention_heads": 3})
    with pytest.raises(ValidationError, match="Extra inputs"):
        small("gpt1", options={"norm": "rms_norm"})


def test_the_padding_of_a_batch_changes_nothing() -> None:
    model = build(TinyBertForSequenceClassification, arch_of(B)).eval()
    narrow, wide = (model(*batch(width=width)).logits for width in (12, 20))
    torch.testing.assert_close(narrow, wide)
    assert batch()[0][1, -1] == PAD
