"""Replaced token detection (ELECTRA: Clark et al. 2020, arXiv 2003.10555)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tlm.study.config import PretrainConfig
from tlm.study.families import Family
from tlm.training.objectives.base import LanguageObjective, Sums

if TYPE_CHECKING:
    from tlm.data.tokenizer import Vocabulary
    from tlm.modeling.packing import Packed
    from tlm.training.loop import Inputs


class Replaced(LanguageObjective):
    """A small generator fills in masked tokens, and the model says of every token whether it is the text's own.

    What comes of it is the model without the generator. Its language modelling head was not trained: it can be fine-tuned,
    and not be scored by likelihood.
    """

    kind: Literal["replaced"] = "replaced"
    generator_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25,
        description="of the model's heads, with their width, and of its feed-forward network, that the generator has",
    )
    discriminator_weight: Annotated[float, Field(gt=0)] = Field(50.0, description="of its loss beside the generator's")
    masks: ClassVar[bool] = True
    trains_head: ClassVar[bool] = False

    def works_with(self, family: Family) -> bool:
        """Encoders."""
        return family.kind == "encoder"

    def predicted_positions(self, config: PretrainConfig, length: int) -> float:
        """The expected number of masked positions: costs are those of masked language modelling by the same model."""
        return config.mlm_probability * (length - 2)

    def inputs(self, batch: Packed, vocabulary: Vocabulary, config: PretrainConfig, *, seed: int, step: int) -> Inputs:
        """Ids with [MASK] at the rows to fill in, the original ones of these, and for each the chance by which the
        generator's token is drawn, in [0, 1): from seed and step alone.
        """
        import numpy as np
        import torch

        from tlm.training.masking import Masker, masked_inputs

        inputs = masked_inputs(batch, Masker(vocabulary, config.mlm_probability, seed), step)
        chance_N = np.random.default_rng([seed, step, 0xE1EC]).random(len(inputs["labels_N"]), dtype=np.float32)
        masked_R = batch.ids_R.index_fill(0, inputs["queries"].rows_N, vocabulary.mask)
        return {**inputs, "ids_R": masked_R, "chance_N": torch.from_numpy(chance_N)}

    def trained_module(self, model: Any) -> Any:
        """The model with a generator and a head of its own."""
        from tlm.training.objectives.detection import Detection

        return Detection(model, self.generator_share, self.discriminator_weight)

    def heldout_sums(self, module: Any, inputs: Mapping[str, Any]) -> Sums:
        """Of the model, over all tokens: `loss` (nats) and `accuracy`, and `replaced`, the share that it should find. Of
        the generator, over masked tokens: `generator_loss` and `generator_accuracy`.
        """
        from torch.nn import functional as F

        labels_N = inputs["labels_N"]
        generated_NV, logits_R, replaced_R = module.run(**inputs)
        found: Sums = {
            "loss": (F.binary_cross_entropy_with_logits(logits_R, replaced_R.float(), reduction="sum"), len(logits_R)),
            "accuracy": (((logits_R > 0) == replaced_R).sum(), len(logits_R)),
            "replaced": (replaced_R.sum(), len(logits_R)),
        }
        if len(labels_N):
            found["generator_loss"] = (F.cross_entropy(generated_NV, labels_N, reduction="sum"), len(labels_N))
            found["generator_accuracy"] = ((generated_NV.argmax(1) == labels_N).sum(), len(labels_N))
        return found
