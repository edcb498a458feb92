"""Masked language modelling (BERT, arXiv 1810.04805): the paper's objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tlm.study.config import PretrainConfig
from tlm.study.families import Family
from tlm.training.objectives.base import LanguageObjective

if TYPE_CHECKING:
    from tlm.data.tokenizer import Vocabulary
    from tlm.modeling.packing import Packed
    from tlm.training.loop import Inputs


class Masked(LanguageObjective):
    """Predict `mlm_probability` of the positions, [CLS] and [SEP] never: 80 % [MASK], 10 % random, 10 % unchanged."""

    kind: Literal["masked"] = "masked"
    masks: ClassVar[bool] = True

    def works_with(self, family: Family) -> bool:
        """Models that see both sides of a masked position."""
        return not family.causal

    def predicted_positions(self, config: PretrainConfig, length: int) -> float:
        """The expected number."""
        return config.mlm_probability * (length - 2)

    def inputs(self, batch: Packed, vocabulary: Vocabulary, config: PretrainConfig, *, seed: int, step: int) -> Inputs:
        """Corrupted ids, and the original ones of the predicted rows; drawn from seed and step alone."""
        from tlm.training.masking import Masker, masked_inputs

        return masked_inputs(batch, Masker(vocabulary, config.mlm_probability, seed), step)
