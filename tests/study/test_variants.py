from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from tlm.study.architecture import VARIANTS, Architecture, expand, variant

PAPER = {  # layers, heads, hidden, convolutions, channels
    "bert6": (6, 12, 768, (), 0),
    "bert1a": (1, 24, 1536, (), 0),
    "bert1b": (1, 12, 768, ((3, 3),) * 2, 64),
    "bert1c": (1, 8, 512, ((3, 3),) * 2, 64),
    "bert1d": (1, 12, 768, ((3, 3),) * 3, 32),
    "bert1e": (1, 12, 768, ((16, 3),) * 2, 64),
}


def test_the_variants_are_those_of_the_paper() -> None:
    assert {name for name, entry in VARIANTS.items() if entry.kind == "encoder"} == {*PAPER, "bert1"}
    for name, (layers, heads, hidden, kernels, channels) in PAPER.items():
        arch = variant(name)
        assert (arch.name, arch.kind) == (name, "encoder")
        assert (arch.num_hidden_layers, arch.num_attention_heads, arch.hidden_size) == (layers, heads, hidden)
        assert arch.intermediate_size == 4 * hidden
        assert (arch.conv_kernel_sizes, arch.conv_channels) == (kernels, channels)


@pytest.mark.parametrize(("name", "like"), [("gpt6", "bert6"), ("gpt1", "bert6")])
def test_the_decoders_are_as_wide_as_bert6(name: str, like: str) -> None:
    decoder, encoder = variant(name), variant(like)
    assert decoder.kind == expand({"variant": name})["kind"] == "decoder"
    assert decoder.num_hidden_layers == int(name[-1])
    shared = ("hidden_size", "num_attention_heads", "intermediate_size", "hidden_dropout_prob")
    assert [getattr(decoder, field) for field in shared] == [getattr(encoder, field) for field in shared]


def test_a_study_file_and_python_mean_the_same() -> None:
    data = {"variant": "bert1b", "head_size": 16, "conv_channels": 8, "name": "small", "hidden_dropout_prob": 0.2}
    in_python = variant("bert1b", head_size=16, conv_channels=8, rename="small", hidden_dropout_prob=0.2)
    assert Architecture(**data) == in_python
    assert (in_python.hidden_size, in_python.intermediate_size, in_python.conv_channels) == (192, 768, 8)
    assert data["variant"] == "bert1b", "the caller's dict is left alone"


def test_overrides_win_and_the_widths_follow() -> None:
    assert variant("bert6", num_hidden_layers=2).num_hidden_layers == 2
    assert variant("bert6", head_size=8, num_attention_heads=3).hidden_size == 24
    narrow = variant("bert6", hidden_size=96)
    assert (narrow.hidden_size, narrow.intermediate_size, narrow.num_attention_heads) == (96, 384, 12)
    assert variant("bert6", head_size=8, intermediate_size=100).intermediate_size == 100


@pytest.mark.parametrize("name", ["bert7", None, ["bert6"]])
def test_an_unknown_variant_lists_those_known(name: object) -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown .*choose from \['bert1', 'bert1a', .*'bert6', 'byte-micro', 'gpt1', .*'gpt6', .*'stlm56'\]",
    ):
        expand({"variant": name})


@pytest.mark.parametrize("size", [0, -1, 2.5, "16", True, None])
def test_a_width_must_be_a_positive_whole_number(size: object) -> None:
    with pytest.raises(ValueError, match="head_size: a positive whole number is needed"):
        expand({"variant": "bert6", "head_size": size})


def test_an_unknown_field_is_named() -> None:
    assert expand({"variant": "bert6", "hedas": 3})["hedas"] == 3
    with pytest.raises(ValidationError, match="hedas"):
        Architecture(variant="bert6", hedas=3)


def test_conv_channels_without_a_conv_front_is_an_error() -> None:
    with pytest.raises(ValidationError, match="conv_kernel_sizes and conv_channels go together"):
        variant("bert6", conv_channels=8)


def test_options_of_a_variant_are_its_own_with_those_given() -> None:
    kept = variant("stlm10", options={"num_key_value_heads": 16}).options
    assert dict(kept) == {**dict(variant("stlm10").options), "num_key_value_heads": 16}
    assert variant("stlm47", head_size=16).intermediate_size == 660, "in proportion to the width"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 130}, "num_attention_heads=4 does not divide hidden_size=130"),
        ({"head_size": 5}, "rope turns pairs of numbers, and a head has 5 of them"),
        ({"options": {"num_key_value_heads": 3}}, "num_key_value_heads=3 does not divide num_attention_heads=4"),
        ({"options": {"num_key_value_heads": 0}}, "num_key_value_heads"),
        ({"options": {"sharing": {"what": "ffn", "keep": 2}}}, r"sharing.keep=2 of 4 layers leaves 0 between"),
        ({"options": {"sharing": {"what": "ffn", "keep": 1}}, "num_hidden_layers": 3}, "of 3 layers leaves 1 between"),
        ({"options": {"sharing": {"what": "ffn", "lora_rank": 0}}}, "lora_rank"),
        ({"options": {"sharing": {"what": "ffn", "lora_rank": 129}}}, "sharing.lora_rank=129 is above 128"),
        ({"options": {"sharing": {"what": "ffn", "lora_alpha": 2.0}}}, "lora_alpha=2 without lora_rank"),
        ({"options": {"sharing": {"what": "attention"}}}, "what"),
        ({"options": {"exits": 2}}, "exits"),
        ({"conv_kernel_sizes": ((3, 3),), "conv_channels": 2}, "neither a convolutional front"),
    ],
)
def test_a_llama_that_cannot_be_is_refused_by_field_and_value(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as error:
        variant("micro", **fields)
    assert len(error.value.errors()) == 1


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys; from tlm.study.architecture import variant; import tlm.modeling.cost; variant('bert1b');"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
