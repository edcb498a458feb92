from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import CLS, LABELS, PAD, config_of, small
from transformers import AutoConfig

from tlm.modeling import TinyBertConfig, register


def test_json_round_trip(name: str, tmp_path: Path) -> None:
    config = config_of(small(name, conv_over_padding=True))
    config.save_pretrained(tmp_path)
    again = TinyBertConfig.from_pretrained(tmp_path)
    assert again.to_dict() | {"dtype": None} == config.to_dict() | {"dtype": None}
    assert again.conv_kernel_sizes == config.conv_kernel_sizes
    assert (again.pad_token_id, again.cls_token_id, again.num_labels) == (PAD, CLS, LABELS)
    register()  # a second time
    assert isinstance(AutoConfig.from_pretrained(tmp_path), TinyBertConfig)


def test_impossible_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="pad_token_id=53 is outside"):
        TinyBertConfig.from_architecture(
            small("bert6"), vocab_size=53, max_position_embeddings=8, pad_token_id=53, cls_token_id=2
        )
    with pytest.raises(ValueError, match="go together"):
        TinyBertConfig(conv_channels=8)
    with pytest.raises(ValueError, match="needs cls_token_id"):
        TinyBertConfig(freeze_cls_embedding=True)
    with pytest.raises(ValueError, match="does not divide"):
        TinyBertConfig(hidden_size=10, num_attention_heads=3)
