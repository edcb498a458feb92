"""What precisions are compared on: the shape of a small language model of a study."""

from __future__ import annotations

from pydantic import SerializeAsAny

from tlm.modeling.cost import pretraining_flops
from tlm.study.architecture import Architecture
from tlm.study.base import Frozen
from tlm.study.config import Objective, PretrainConfig

LAYERS = 2
"""Of a model that is measured, at most: the last layer computes what is predicted alone, those below it all rows."""
TEXT_SHARE = 0.75
"""Length of a measured text, as a share of the longest."""


class Shape(Frozen):
    """What is measured: a language model of a study, at most LAYERS deep, and what it reads and predicts."""

    architecture: Architecture
    objective: SerializeAsAny[Objective] | None
    mlm_probability: float
    max_length: int
    vocab_size: int

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        objective: Objective | None,
        mlm_probability: float,
        max_length: int,
        vocab_size: int,
    ) -> Shape:
        """Of a whole architecture, whose name and further layers make no difference."""
        layers, options = min(LAYERS, architecture.num_hidden_layers), architecture.options
        if exits := getattr(options, "exits", ()):
            options = options.model_copy(update={"exits": tuple(each for each in exits if each < layers)})
        few = {"name": "measured", "num_hidden_layers": layers, "options": options}
        return cls(
            architecture=architecture.model_copy(update=few),
            objective=objective,
            mlm_probability=mlm_probability,
            max_length=max_length,
            vocab_size=vocab_size,
        )

    @property
    def text_length(self) -> int:
        """Tokens of each text, [CLS] and [SEP] counted."""
        return max(4, round(TEXT_SHARE * self.max_length))

    @property
    def config(self) -> PretrainConfig:
        return PretrainConfig(steps=1, objective=self.objective, mlm_probability=self.mlm_probability)

    @property
    def forward_flops(self) -> float:
        """Operations of the forward pass of one text."""
        return pretraining_flops(self.architecture, self.config, self.text_length, self.vocab_size)
