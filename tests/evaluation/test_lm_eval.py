"""EleutherAI's lm-eval scores options as tlm does, where the definitions agree: Σ log p of an option given its prefix.

lm-eval is no dependency, and no extra: all that it brings would be for these tests alone. It is installed into an
environment of its own, over that of the checkout, which stays as it is:

    .venv/bin/python -m venv /tmp/lm-eval
    echo "$PWD/.venv/lib/python3.11/site-packages" > /tmp/lm-eval/lib/python3.11/site-packages/checkout.pth
    /tmp/lm-eval/bin/python -m pip install -c constraints.txt lm-eval==0.4.13 accelerate
    TLM_DATA_ROOT=/path/to/data PYTHONPATH=$PWD /tmp/lm-eval/bin/python -m pytest -n0 tests/evaluation/test_lm_eval.py

Its tasks are local files that are made here of the first items of each benchmark, with the prompts that tlm gives.
Where definitions differ, nothing is compared: of options that tie lm-eval takes the first, and `acc_norm` is per
character, not per byte.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from shell import real_data_root

from tlm.data.benchmarks import read
from tlm.data.benchmarks.tokens import OptionTokens, tokenise
from tlm.data.wordpiece import TrainedTokenizer
from tlm.evaluation.likelihood import log_likelihoods
from tlm.evaluation.outcomes import credits
from tlm.modeling.interchange import save
from tlm.study.architecture import Architecture
from tlm.study.likelihood import ArcEasy, BenchmarkConfig, Blimp, HellaSwag
from tlm.training.pretrain import untrained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not real_data_root(), reason="TLM_DATA_ROOT is not set"),
    pytest.mark.skipif(
        not importlib.util.find_spec("lm_eval"), reason="lm_eval is not installed: see above in the file"
    ),
]

ITEMS, MAX_LENGTH = 200, 512
BENCHMARKS: dict[str, BenchmarkConfig] = {
    "blimp": Blimp(path="evaluation/blimp/data/adjunct_island.jsonl"),
    "arc_easy": ArcEasy(),
    "hellaswag": HellaSwag(),
}
PROMPTS: dict[str, dict[str, Any]] = {
    "blimp": {
        "doc_to_text": "",
        "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
        "doc_to_target": 0,
        "target_delimiter": "",
    },
    "arc_easy": {
        "doc_to_text": "Question: {{question.strip()}}\nAnswer:",
        "doc_to_choice": "{{choices.text}}",
        "doc_to_target": "{{choices.label.index(answerKey)}}",
    },
    "hellaswag": {
        "doc_to_text": "{{activity_label}}: {{ctx}}",
        "doc_to_choice": "{{endings}}",
        "doc_to_target": "{{label}}",
    },
}
"""lm-eval's words for what `tlm.data.benchmarks` reads."""
SHAPE: dict[str, Any] = {
    "name": "toy",
    "kind": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "options": {"num_key_value_heads": 2},
}


@dataclass
class Scored:
    """What both say of the same options, by benchmark: log p of each option (nats), and the share of right answers."""

    ours: dict[str, tuple[NDArray[np.float64], float]]
    theirs: dict[str, tuple[NDArray[np.float64], float]]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    folder = tmp_path_factory.mktemp("lm-eval")
    items = {name: read(each, real_data_root(), ITEMS) for name, each in BENCHMARKS.items()}
    texts = [text for found in items.values() for item in found for text in (*item.prefixes, *item.options)]
    tokenizer = TrainedTokenizer(vocab_size=2_000).make(lambda: texts, "")
    model = untrained(Architecture(**SHAPE), tokenizer.vocabulary, max_length=MAX_LENGTH, seed=3)
    with torch.no_grad():  # an initialisation is so small that every token is about as likely
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    save(model, folder / "model")
    tokenizer.save(folder / "model")
    ours = {}
    for name, found in items.items():
        tokens: OptionTokens = tokenise(found, tokenizer, MAX_LENGTH, "refuse")
        log_p = log_likelihoods(model, tokens.texts, tokens.starts, tokenizer.vocabulary, max_length=MAX_LENGTH)
        ours[name] = log_p, float(credits(log_p, tokens.item_of, np.array([item.gold for item in found])).mean())
    return Scored(ours, by_lm_eval(folder))


def by_lm_eval(folder: Path) -> dict[str, tuple[NDArray[np.float64], float]]:
    """The same, by lm-eval with transformers' own Llama from the folder `model`."""
    for name, benchmark in BENCHMARKS.items():
        lines = (Path(real_data_root()) / benchmark.path).read_text(encoding="utf-8").splitlines()[:ITEMS]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        task = {
            "task": f"tlm_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "metric_list": [{"metric": "acc"}],
            **PROMPTS[name],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "hub"))
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        found = _evaluate(folder)
    answers = {}
    for name in BENCHMARKS:
        samples = sorted(found["samples"][f"tlm_{name}"], key=lambda sample: sample["doc_id"])
        log_p = np.array([float(answer[0]) for sample in samples for answer in sample["filtered_resps"]])
        answers[name] = log_p, float(found["results"][f"tlm_{name}"]["acc,none"])
    return answers


def _evaluate(folder: Path) -> Any:
    """A text begins with [CLS], as tlm's do, and does not end with [SEP], which is not scored."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fast = AutoTokenizer.from_pretrained(folder / "model")
    begin = [(fast.cls_token, fast.cls_token_id)]
    fast.backend_tokenizer.post_processor = TemplateProcessing(single=f"{fast.cls_token} $A", special_tokens=begin)
    fast.bos_token, fast.eos_token = fast.cls_token, fast.sep_token
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    assert type(model).__name__ == "LlamaForCausalLM"
    own = HFLM(pretrained=model, tokenizer=fast, add_bos_token=True, max_length=MAX_LENGTH, batch_size=16, device="cpu")
    return simple_evaluate(
        model=own,
        tasks=[f"tlm_{name}" for name in BENCHMARKS],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )


@pytest.mark.parametrize("name", BENCHMARKS)
def test_options_have_the_same_log_p_and_as_many_items_are_right(name: str, scored: Scored) -> None:
    (ours, right), (theirs, acc) = scored.ours[name], scored.theirs[name]
    assert len(ours) == len(theirs) >= 2 * ITEMS
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    assert right == acc
