"""A fine-tuned model with all that its predictions depend on, from its artifact."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tlm.artifacts.store import Artifact
from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.families.base import family_of
from tlm.modeling.interchange import CONFIG_FILE, WEIGHTS_FILE, load_strict
from tlm.study.architecture import Architecture
from tlm.study.base import Precision
from tlm.study.config import FinetuneConfig
from tlm.training.finetune import predict


@dataclass(frozen=True)
class FinetunedModel:
    """On `device`, to be asked as it was evaluated: in its precision, texts cut to its length."""

    model: PreTrainedModel = field(repr=False)
    architecture: Architecture
    precision: Precision
    max_length: int
    device: str

    @classmethod
    def load(cls, artifact: Artifact, device: str = "cpu") -> FinetunedModel:
        """The model of an artifact of stage `finetune`, `soup` or `compress`."""
        record = artifact.record
        shape = Architecture.model_validate({"name": str(record.labels["arch"]), **record.config["architecture"]})
        return cls(
            model=load_strict(family_of(shape).classifier, artifact.folder((CONFIG_FILE, WEIGHTS_FILE))).to(device),
            architecture=shape,
            precision=FinetuneConfig.model_validate(record.config["finetune"]).precision,
            max_length=int(record.config["max_length"]),
            device=device,
        )

    def logits(self, tokens: Ragged, rows: Rows, vocabulary: Vocabulary, batch_size: int = 64) -> NDArray[np.float32]:
        """(N, labels) of the texts at `rows`."""
        return predict(self.model, tokens, rows, vocabulary, self.max_length, self.precision, self.device, batch_size)
