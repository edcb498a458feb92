"""Exits: one head reads the state after several layers; tokens leave where it is sure, and nobody looks ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_models import batch, build, small
from torch import Tensor

from tlm.modeling import TinyLlamaForCausalLM
from tlm.modeling.cost import language_model_flops
from tlm.modeling.decoder import flat_causal
from tlm.modeling.exits import EarlyExit
from tlm.modeling.interchange import load_strict, save
from tlm.modeling.layout import Queries

EXITS = (1, 3)
ARCH = small("micro", options={"exits": EXITS})


@pytest.fixture(scope="module")
def model() -> Any:
    return build(TinyLlamaForCausalLM, ARCH).eval()


def asked(mask: Tensor | None = None, lengths: tuple[int, ...] = (12, 5, 9)) -> dict[str, Any]:
    """A batch whose every token is queried."""
    ids, own = batch(lengths=lengths)
    ids_R, layout = flat_causal(ids, own if mask is None else mask)
    return {"ids_R": ids_R, "layout": layout, "queries": Queries.of(layout, layout.real_R.nonzero().squeeze(1))}


def at(model: Any, threshold: float, given: dict[str, Any]) -> tuple[Tensor, EarlyExit]:
    early = EarlyExit(model, threshold)
    with torch.no_grad():
        return early.logits(**given), early


def confident(model: Any, given: dict[str, Any], share: float = 0.5) -> float:
    """A threshold at which so many tokens leave at the first exit."""
    with torch.no_grad():
        first = next(model.model.after(model.model.embed_tokens(given["ids_R"]), given["layout"], EXITS))
        return float(model.lm_head(first).softmax(dim=1).amax(dim=1)[given["queries"].rows_N].quantile(1 - share))


def test_the_mean_of_layers_is_exact_however_many_tokens_there_are(model: Any) -> None:
    early = EarlyExit(model, 0.5)
    early.left[3] = 33_333_333
    assert early.layers == 3
    early.left[4] = 1
    assert 3 < early.layers < 3 + 1e-7


def test_with_threshold_1_or_above_any_confidence_it_is_the_whole_model_to_the_bit(model: Any) -> None:
    given = asked()
    with torch.no_grad():
        whole = model.logits(**given)
    for threshold in (1.0, 0.9999):
        found, early = at(model, threshold, given)
        assert torch.equal(found, whole) and early.layers == 4 and early.tokens == 11 + 4 + 8
    assert at(model, 1.0, given)[1].flops_share == 1.0
    assert at(model, 0.9999, given)[1].flops_share > 1.0, "the head has read at every exit, for nothing"


def test_with_threshold_0_it_is_the_model_of_the_layers_below_the_first_exit(model: Any) -> None:
    given = asked()
    shallow = build(TinyLlamaForCausalLM, small("micro", num_hidden_layers=1)).eval()
    shallow.load_state_dict({name: model.state_dict()[name] for name in shallow.state_dict()})
    found, early = at(model, 0.0, given)
    with torch.no_grad():
        assert torch.equal(found, shallow.logits(**given))
    assert early.layers == 1 and 0.2 < early.flops_share < 0.9


def test_each_token_leaves_at_the_first_exit_that_is_sure_enough(model: Any) -> None:
    given = asked()
    threshold = confident(model, given)
    _, early = at(model, threshold, given)
    assert 1 < early.layers < 4 and early.left[1] > 0 and early.left[2] == 0
    layers = [at(model, each, given)[1].layers for each in (0.0, threshold, 1.0)]
    assert layers == sorted(layers)


@pytest.mark.parametrize("kept", [2, 5, 11])
def test_what_comes_later_changes_nothing(model: Any, kept: int) -> None:
    whole = asked(lengths=(12,))
    threshold = confident(model, whole)
    ids, mask = batch(lengths=(12,))
    ids_R, layout = flat_causal(ids[:, :kept], mask[:, :kept])
    cut = {"ids_R": ids_R, "layout": layout, "queries": Queries.of(layout, torch.arange(kept))}
    found, expected = at(model, threshold, cut)[0], at(model, threshold, whole)[0][:kept]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_loss_is_that_of_every_exit_weighted_by_its_layers(model: Any) -> None:
    given = asked()
    labels_N = torch.arange(len(given["queries"].rows_N)) % 7
    with torch.no_grad():
        found = model.loss(**given, labels_N=labels_N)
        states = model.model.after(model.model.embed_tokens(given["ids_R"]), given["layout"], (*EXITS, 4))
        losses = [
            torch.nn.functional.cross_entropy(model.lm_head(x_RD[given["queries"].rows_N]), labels_N) for x_RD in states
        ]
    expected = (1 * losses[0] + 3 * losses[1] + 4 * losses[2]) / 8
    torch.testing.assert_close(found, expected)


def test_a_saved_model_knows_its_exits_and_others_do_not_speak_of_any(model: Any, tmp_path: Path) -> None:
    save(model, tmp_path / "exits")
    assert load_strict(TinyLlamaForCausalLM, tmp_path / "exits").config.exits == EXITS
    save(build(TinyLlamaForCausalLM, small("micro", options={"ffn": "gelu"})), tmp_path / "none")
    assert "exits" not in (tmp_path / "none/config.json").read_text()


def test_a_loss_at_every_exit_costs_a_product_with_the_vocabulary() -> None:
    plain, exits = (language_model_flops(each, 12, 11, 53) for each in (small("micro"), ARCH))
    assert exits - plain == 2 * 2 * ARCH.hidden_size * 53 * 11


@pytest.mark.parametrize(
    ("exits", "complaint"),
    [
        ([2, 2], r"exits=\[2, 2\]: each must be above"),
        ([3, 1], "each must be above"),
        ([1, 4], "micro has 4"),
        ([0], "0"),
    ],
)
def test_exits_that_are_none_are_refused(exits: list[int], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        small("micro", options={"exits": exits})


def test_a_model_of_bytes_has_no_exits() -> None:
    with pytest.raises(ValidationError, match="a model of bytes has none"):
        small("byte-micro", options={"exits": [1], "byte": {"width": 8, "num_attention_heads": 2}})
