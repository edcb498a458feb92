"""Causal language modelling (GPT-2): every next token."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tlm.study.config import PretrainConfig
from tlm.study.families import Family
from tlm.training.objectives.base import LanguageObjective

if TYPE_CHECKING:
    from tlm.data.tokenizer import Vocabulary
    from tlm.modeling.packing import Packed
    from tlm.training.loop import Inputs


class Causal(LanguageObjective):
    """Predict every token from those before it, the first from [CLS], and last [SEP]."""

    kind: Literal["causal"] = "causal"
    exact: ClassVar[bool] = True

    def works_with(self, family: Family) -> bool:
        """Models that cannot see the token they predict."""
        return family.causal

    def predicted_positions(self, config: PretrainConfig, length: int) -> float:
        """All but the first."""
        return length - 1

    def inputs(self, batch: Packed, vocabulary: Vocabulary, config: PretrainConfig, *, seed: int, step: int) -> Inputs:
        """The batch as it is; each row's label is the token that follows it."""
        from tlm.training.masking import next_token_inputs

        return next_token_inputs(batch)
