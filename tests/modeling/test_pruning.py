"""What is taken out of a model: as much as was asked, and what has the least weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import numbered_vocabulary
from tiny_models import LABELS, POSITIONS, VOCAB, build, small

from tlm.data.ragged import Ragged
from tlm.modeling import (
    TinyBertForSequenceClassification,
    TinyGptForSequenceClassification,
    TinyLlamaForSequenceClassification,
)
from tlm.modeling.cost import count_parameters, expected_parameters
from tlm.modeling.families.base import family_of
from tlm.modeling.pruning import InputNorms, keep_pieces, layer_matrices, prune_by_magnitude, prune_by_wanda
from tlm.study.architecture import Architecture

SHARED = {"num_key_value_heads": 2, "sharing": {"what": "ffn"}}
SHAPES: list[tuple[Any, Architecture]] = [
    (TinyBertForSequenceClassification, small("bert6", num_hidden_layers=2, num_attention_heads=4)),
    (TinyGptForSequenceClassification, small("gpt6", num_hidden_layers=2, num_attention_heads=4)),
    (TinyLlamaForSequenceClassification, small("micro", num_hidden_layers=2, options=SHARED)),
]
BERT, GPT, _ = SHAPES
SHARES = [0.0, 0.3, 0.5, 0.99]


def made(shape: tuple[Any, Architecture]) -> Any:
    return build(shape[0], shape[1]).eval()


def asked(model: Any) -> Any:
    """Logits of a few texts of different lengths."""
    texts = Ragged.from_lists([range(6, 6 + n) for n in (3, 9, 1, 9, 5)])
    packed = family_of(model.config).packer(model.config, "cpu")(texts, np.arange(5), numbered_vocabulary(VOCAB), 24)
    with torch.no_grad():
        return model.logits(packed.ids_R, packed.layout)


def seen_by(model: Any) -> InputNorms:
    with InputNorms() as seen:
        asked(model)
    return seen


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("shape", SHAPES, ids=["encoder", "decoder", "llama"])
def test_exactly_the_share_of_each_matrix_goes_and_nothing_else_changes(
    shape: tuple[Any, Architecture], share: float
) -> None:
    for by_magnitude in (True, False):
        model = made(shape)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        prune_by_magnitude(model, share) if by_magnitude else prune_by_wanda(model, share, seen_by(model))
        matrices = layer_matrices(model)
        for name, weight in matrices.items():
            groups = weight.view(1, -1) if by_magnitude else weight
            assert ((groups == 0).sum(dim=1) == round(share * groups.shape[1])).all(), name
            kept = weight != 0
            assert torch.equal(weight[kept], before[name][kept])
        shared = {name for name, tensor in model.state_dict().items() if _is_one_of(tensor, matrices.values())}
        assert all(torch.equal(model.state_dict()[name], before[name]) for name in before.keys() - shared)


def _is_one_of(tensor: Any, others: Any) -> bool:
    return any(tensor.data_ptr() == other.data_ptr() for other in others)


@pytest.mark.parametrize("shape", SHAPES, ids=["encoder", "decoder", "llama"])
def test_the_smallest_weights_go_by_themselves_or_times_their_input(shape: tuple[Any, Architecture]) -> None:
    for by_magnitude in (True, False):
        model = made(shape)
        seen = seen_by(model)
        scores = {name: weight.abs().clone() for name, weight in layer_matrices(model).items()}
        if by_magnitude:
            scores = {name: score.view(1, -1) for name, score in scores.items()}
            prune_by_magnitude(model, 0.5)
        else:
            scores = {name: score * seen.of(layer_matrices(model)[name]) for name, score in scores.items()}
            prune_by_wanda(model, 0.5, seen)
        for name, weight in layer_matrices(model).items():
            gone = weight.view(scores[name].shape) == 0
            for score, is_gone in zip(scores[name], gone, strict=True):
                assert score[is_gone].max() <= score[~is_gone].min()


def test_what_a_matrix_is_multiplied_with_is_what_its_module_reads() -> None:
    model, read = made(BERT), {}
    layer = "bert.encoder.layer.0"

    def remember(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        read[module] = given[0].norm(dim=0)

    own = {f"{layer}.{name}.dense" for name in ("attention.output", "intermediate", "output")}
    for name in (*own, f"{layer}.attention.self"):
        model.get_submodule(name).register_forward_pre_hook(remember)
    seen = seen_by(model)
    found = {name: model.get_submodule(name) for name in own}
    attention = model.get_submodule(f"{layer}.attention.self")
    pairs = [(module.weight, read[module]) for module in found.values()]
    pairs += [(each.weight, read[attention]) for each in (attention.query, attention.key, attention.value)]
    for weight, norm in pairs:
        torch.testing.assert_close(seen.of(weight), norm)


def test_wanda_asks_for_what_it_has_not_seen_and_a_family_without_layers_has_nothing_to_prune(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = made(BERT)
    with pytest.raises(ValueError, match=r"nothing has been multiplied with bert\.encoder"):
        prune_by_wanda(model, 0.5, InputNorms())
    monkeypatch.setattr(type(family_of(model.config)), "layer_names", "")
    with pytest.raises(ValueError, match="kind encoder have no layers"):
        prune_by_magnitude(model, 0.5)


PIECES = [(BERT, "neurons"), (BERT, "heads"), (GPT, "neurons")]


@pytest.mark.parametrize(("shape", "what"), PIECES)
def test_pieces_that_do_nothing_go_first_and_the_answers_stay(shape: tuple[Any, Architecture], what: str) -> None:
    model = made(shape)
    pieces = getattr(family_of(shape[1]), what)(shape[1])
    idle, names = torch.tensor([1, pieces.count - 1]), family_of(shape[1]).layer_names
    columns = (idle[:, None] * pieces.width + torch.arange(pieces.width)).flatten()
    with torch.no_grad():
        for number in range(shape[1].num_hidden_layers):
            model.get_parameter(f"{names}{number}.{pieces.out_of}.weight")[:, columns] = 0.0
    smaller = keep_pieces(model, pieces, pieces.count - 2)
    torch.testing.assert_close(asked(smaller), asked(model))
    arch = pieces.kept(shape[1], pieces.count - 2)
    assert getattr(arch, pieces.amount) == getattr(smaller.config, pieces.amount) == pieces.count - 2
    sizes = {"vocab_size": VOCAB, "max_position_embeddings": POSITIONS, "num_labels": LABELS}
    assert count_parameters(smaller) == expected_parameters(arch, **sizes) < count_parameters(model)


@pytest.mark.parametrize(("shape", "what"), PIECES)
def test_with_all_its_pieces_a_model_is_itself(shape: tuple[Any, Architecture], what: str) -> None:
    model = made(shape)
    pieces = getattr(family_of(shape[1]), what)(shape[1])
    assert keep_pieces(model, pieces, pieces.count) is model
    assert pieces.kept(shape[1], pieces.count) is shape[1]
