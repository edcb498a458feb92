"""Contender "ours": tlm's own training and evaluation. The one file of the benchmark that knows tlm's training code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.cases import LEARNING_RATE, MLM_PROBABILITY, WEIGHT_DECAY
from benchmarks.setting import Setting
from tlm.data.ragged import Rows
from tlm.data.wordpiece import read_vocabulary
from tlm.modeling.families.base import family_of
from tlm.study.architecture import Architecture
from tlm.study.base import Precision
from tlm.study.config import FinetuneConfig, PretrainConfig
from tlm.training.finetune import predict
from tlm.training.loop import Batches, Inputs, train
from tlm.training.masking import Masker, masked_inputs
from tlm.training.optimisation import Curve


class Ours:
    """The precision that "auto" means; batches as tlm's pretrain and finetune make them."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.case, self.workload = setting.case, setting.workload
        self.precision: Precision = "bfloat16" if setting.bfloat16 else "float32"
        self.vocabulary = read_vocabulary(self.workload.vocabulary_file)
        self.masker = Masker(self.vocabulary, MLM_PROBABILITY, seed=0)
        self.labels = torch.from_numpy(self.workload.labels)
        architecture = Architecture(name=self.case.name, **asdict(self.case.shape))
        family, labels = family_of(architecture), self.workload.num_labels or None
        config = family.configure(architecture, self.vocabulary, self.case.max_length, labels)
        model_class = family.language_model if self.case.objective == "pretrain" else family.classifier
        torch.manual_seed(0)
        self.model = model_class(config).to(setting.device)
        self.pack = family.packer(config, setting.device)

    def prepare(self, batches: Sequence[Rows], repeats: int) -> Callable[[], None]:
        """Nothing is left to prepare: the tokens are stored as a study stores them."""
        if self.case.trains:
            return lambda: self._train([*batches] * repeats)
        return lambda: self._evaluate(batches, repeats)

    def _train(self, batches: Sequence[Rows]) -> None:
        common: dict[str, Any] = {
            "learning_rate": LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
            "batch_size": self.case.batch_size,
            "precision": self.precision,
        }
        pretrains = self.case.objective == "pretrain"
        train(
            self.model,
            Batches(_Given(batches), self._inputs),
            PretrainConfig(**common, steps=len(batches)) if pretrains else FinetuneConfig(**common, epochs=1),
            steps=len(batches),
            device=self.setting.device,
            curve=Curve(),
            hooks=[],
        )

    def _inputs(self, step: int, rows: Rows) -> Inputs:
        batch = self.pack(self.workload.tokens, rows, self.vocabulary, self.case.max_length)
        if self.case.objective == "pretrain":
            return masked_inputs(batch, self.masker, step)
        return {"ids_R": batch.ids_R, "layout": batch.layout, "labels_B": self.labels[rows[batch.order_B]]}

    def _evaluate(self, batches: Sequence[Rows], repeats: int) -> None:
        rows = np.concatenate(batches)
        for _ in range(repeats):
            predict(
                self.model,
                self.workload.tokens,
                rows,
                self.vocabulary,
                self.case.max_length,
                self.precision,
                self.setting.device,
            )


@dataclass(frozen=True)
class _Given:
    """The batches of a run that are the same for every contender, in the place of tlm's own order."""

    batches: Sequence[Rows]

    @property
    def steps_per_epoch(self) -> int:
        return len(self.batches)

    def batch(self, step: int) -> tuple[int, Rows]:
        return 0, self.batches[step]
