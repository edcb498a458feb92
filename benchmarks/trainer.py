"""Contender "trainer": transformers' Trainer with its stock collators, which pad to the longest item of a batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from transformers import (
    BertTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging

from benchmarks.cases import LEARNING_RATE, MLM_PROBABILITY, WEIGHT_DECAY
from benchmarks.setting import Setting
from benchmarks.stock import build_model
from benchmarks.workload import Workload
from tlm.data.ragged import Rows


class StockTrainer:
    """float32 (on CUDA `bf16=True`), nothing saved, logged or evaluated on the way; otherwise the Trainer's defaults."""

    def __init__(self, setting: Setting) -> None:
        logging.set_verbosity_error()
        self.setting = setting
        self.precision = "bfloat16" if setting.device == "cuda" else "float32"
        self.model = build_model(setting)
        tokens = {token: index for index, token in enumerate(setting.workload.vocabulary)}
        tokenizer = BertTokenizer(vocab=tokens)
        if setting.case.objective == "pretrain":
            self.collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MLM_PROBABILITY)
        else:
            self.collator = DataCollatorWithPadding(tokenizer)
        self.examples = encode(setting.workload, setting.case.max_length, labelled=setting.case.objective != "pretrain")
        self.optimizer: Any = None  # the Trainer's own choice, made by the first
        self.scratch = tempfile.TemporaryDirectory()

    def prepare(self, batches: Sequence[Rows], repeats: int) -> Callable[[], None]:
        """A Trainer over the examples of `batches`: `repeats` epochs, or that many predictions."""
        examples = [self.examples[row] for rows in batches for row in rows]
        trainer = Trainer(
            model=self.model,
            args=self._arguments(repeats),
            train_dataset=examples,
            data_collator=self.collator,
            optimizers=(self.optimizer, None),
        )
        if self.optimizer is None and self.setting.case.trains:
            self.optimizer = trainer.create_optimizer()
        trainer.remove_callback(PrinterCallback)
        if self.setting.case.trains:
            return lambda: trainer.train() and None

        def evaluate() -> None:
            for _ in range(repeats):
                trainer.predict(examples)

        return evaluate

    def _arguments(self, epochs: int) -> TrainingArguments:
        cuda = self.setting.device == "cuda"
        return TrainingArguments(
            output_dir=self.scratch.name,
            per_device_train_batch_size=self.setting.case.batch_size,
            per_device_eval_batch_size=self.setting.case.batch_size,
            num_train_epochs=epochs,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            bf16=cuda,
            use_cpu=not cuda,
            train_sampling_strategy="sequential",  # every contender sees the same batches
            remove_unused_columns=False,  # special_tokens_mask spares the collator a Python loop over the tokens
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )


def encode(workload: Workload, max_length: int, *, labelled: bool) -> list[dict[str, Any]]:
    """Every item as a tokenizer returns it, unpadded: lists of Python ints."""
    cls, sep = workload.id_of("[CLS]"), workload.id_of("[SEP]")
    examples = []
    for row in range(len(workload.tokens)):
        ids = [cls, *workload.tokens[row][: max_length - 2].tolist(), sep]
        example: dict[str, Any] = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        if labelled:
            example["label"] = int(workload.labels[row])
        else:
            example["special_tokens_mask"] = [1, *[0] * (len(ids) - 2), 1]
        examples.append(example)
    return examples
