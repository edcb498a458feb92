"""The files from which transformers makes a tokenizer that means the same: beside the tokenizer, and beside every model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.artifacts.store import Artifact
from tlm.data.tokenizer import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


def write(fast: FastTokenizer, vocabulary: Vocabulary, folder: Path, **more: Any) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`: ids as `fast` has them, between [CLS] and [SEP].

    What is said of special tokens is in the second file alone, and it says that a text that spells one, "[SEP]", is split
    like any other, as it is here.

    Args:
        fast: without special tokens of its own.
        vocabulary: has pad, cls and sep.
        more: further settings of the tokenizer's class in transformers.
    """
    from tokenizers import Tokenizer, processors

    whole = Tokenizer.from_str(fast.to_str())
    whole.no_truncation()
    names = {name: vocabulary.tokens[token] for name, token in vocabulary.special.items()}
    first, last = names["cls"], names["sep"]
    whole.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(first, vocabulary.cls), (last, vocabulary.sep)],
    )
    whole.save(str(folder / FILE))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": token for name, token in names.items()},
        "split_special_tokens": True,
        "padding_side": "right",
        "truncation_side": "right",
        # Not the types of tokens: GPT-2 would add the embedding of token 0 to every position.
        "model_input_names": ["input_ids", "attention_mask"],
        **more,
    }
    _write_settings(settings, folder)


def copy_beside_model(tokenizer: Artifact, folder: Path, max_length: int) -> None:
    """Put a tokenizer's files beside a model that takes `max_length` tokens at most, [CLS] and [SEP] counted.

    A kind of tokenizer that has no such files has none here either.
    """
    if FILE in tokenizer.record.outputs and CONFIG_FILE in tokenizer.record.outputs:
        shutil.copyfile(tokenizer.path(FILE), folder / FILE)
        settings = json.loads(tokenizer.path(CONFIG_FILE).read_text(encoding="utf-8"))
        _write_settings({**settings, "model_max_length": max_length}, folder)


def _write_settings(settings: dict[str, Any], folder: Path) -> None:
    text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
