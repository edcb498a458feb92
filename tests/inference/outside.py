"""Run as a script by test_outside.py: what was exported, in a process that knows transformers and nothing of ours."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertTokenizer,
    GPT2ForSequenceClassification,
    LlamaForSequenceClassification,
    pipeline,
)

NAMED = {
    "bert": BertForSequenceClassification,
    "gpt2": GPT2ForSequenceClassification,
    "llama": LlamaForSequenceClassification,
}


def tokens(folder: str, texts: list[str]) -> dict[str, Any]:
    auto = AutoTokenizer.from_pretrained(folder)
    return {
        "auto": auto(texts)["input_ids"],
        "bert": BertTokenizer.from_pretrained(folder)(texts)["input_ids"],
        "raw": [each.ids for each in Tokenizer.from_file(f"{folder}/tokenizer.json").encode_batch(texts)],
        "special": {name: getattr(auto, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")},
        "size": len(auto),
    }


def classes(folder: str, texts: list[str]) -> dict[str, Any]:
    """Probabilities of the labels, by whichever class somebody may load the folder with, and by the pipeline."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    auto = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    named = NAMED[auto.config.model_type].from_pretrained(folder).eval()
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        found = [model(**batch).logits.softmax(-1).tolist() for model in (auto, named)]
        found.append(
            [auto(**tokenizer(t, truncation=True, return_tensors="pt")).logits.softmax(-1)[0].tolist() for t in texts]
        )
    answers = pipeline("text-classification", model=folder, tokenizer=folder, top_k=None)(texts, truncation=True)
    by_name = [{each["label"]: each["score"] for each in answer} for answer in answers]
    names = [auto.config.id2label[index] for index in range(auto.config.num_labels)]
    found.append([[answer[name] for name in names] for answer in by_name])
    return {"names": names, "label2id": auto.config.label2id, "probabilities": found, "type": type(auto).__name__}


def words(folder: str, texts: list[str]) -> dict[str, Any]:
    """A language model's logits at the last token of each text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind = AutoConfig.from_pretrained(folder).model_type
    model = (AutoModelForMaskedLM if kind == "bert" else AutoModelForCausalLM).from_pretrained(folder).eval()
    with torch.no_grad():
        each = [model(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0, -1].tolist() for text in texts]
    return {"logits": each, "type": type(model).__name__}


def refused(folder: str, texts: list[str]) -> dict[str, Any]:
    errors = []
    for load in (AutoModelForSequenceClassification, AutoTokenizer):
        try:
            load.from_pretrained(folder)
            errors.append("")
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    return {"errors": errors}


def main() -> None:
    asked = json.loads(sys.stdin.read())
    found = {
        folder: {"tokens": tokens, "classes": classes, "words": words, "refused": refused}[what](folder, asked["texts"])
        for folder, what in asked["folders"].items()
    }
    assert not [name for name in sys.modules if name.partition(".")[0] == "tlm"]
    sys.stdout.write(json.dumps(found))


main()
