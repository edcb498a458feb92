"""Masked and causal language modelling in one decoder (GPT-BERT: Charpentier and Samuel 2024, arXiv 2410.24159)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tlm.study.config import PretrainConfig
from tlm.study.families import Family
from tlm.training.objectives.base import LanguageObjective, Sums

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tlm.data.tokenizer import Vocabulary
    from tlm.modeling.packing import Packed
    from tlm.training.loop import Inputs

MASKED = "masked_"
"""What the names of inputs and metrics of the masked way begin with in held-out evaluation."""


class Hybrid(LanguageObjective):
    """Some sequences of a batch are masked and seen both ways, the others are causal.

    In both a token is predicted from the position before its own, so that one head does both, and every predicted token
    counts alike. Held-out loss and accuracy are those of the model as a causal one, which it is used as.
    """

    kind: Literal["hybrid"] = "hybrid"
    masked_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        15 / 16, description="of the sequences of a batch; of their positions mlm_probability is predicted"
    )
    exact: ClassVar[bool] = True
    masks: ClassVar[bool] = True

    def works_with(self, family: Family) -> bool:
        """Decoders of tokens that can attend both ways."""
        return family.predicts_next

    def predicted_positions(self, config: PretrainConfig, length: int) -> float:
        """The mean over sequences of either way."""
        masked = config.mlm_probability * (length - 2)
        return self.masked_share * masked + (1 - self.masked_share) * (length - 1)

    def inputs(self, batch: Packed, vocabulary: Vocabulary, config: PretrainConfig, *, seed: int, step: int) -> Inputs:
        """Corrupted ids of the masked sequences and those of the others; which are masked is drawn from seed and step."""
        which_B = masked_sequences(batch.layout.sequences, self.masked_share, seed=seed, step=step)
        return hybrid_inputs(batch, which_B, vocabulary, config, seed=seed, step=step)

    def heldout_inputs(
        self, batch: Packed, vocabulary: Vocabulary, config: PretrainConfig, *, seed: int, step: int
    ) -> Inputs:
        """All sequences as causal ones, and all of them masked."""
        import numpy as np

        from tlm.training.masking import next_token_inputs

        everyone_B = np.ones(batch.layout.sequences, dtype=bool)
        masked = hybrid_inputs(batch, everyone_B, vocabulary, config, seed=seed, step=step)
        return {**next_token_inputs(batch), **{f"{MASKED}{name}": value for name, value in masked.items()}}

    def heldout_sums(self, module: Any, inputs: Mapping[str, Any]) -> Sums:
        """Loss and accuracy as a causal model; `masked_loss` and `masked_accuracy` of masked tokens seen both ways."""
        causal = {name: value for name, value in inputs.items() if not name.startswith(MASKED)}
        masked = {name.removeprefix(MASKED): value for name, value in inputs.items() if name.startswith(MASKED)}
        of_masked = super().heldout_sums(module, masked)
        return {
            **super().heldout_sums(module, causal),
            **{f"{MASKED}{name}": sums for name, sums in of_masked.items()},
        }


def masked_sequences(count: int, share: float, *, seed: int, step: int) -> NDArray[np.bool_]:
    """Which sequences of a batch are masked, (B,); a function of its arguments alone.

    Each is with probability `share`, and their number is the share's, rounded up or down. They follow one another in the
    layout, from any place and around its end, so that few rectangles are cut.
    """
    import numpy as np

    generator = np.random.default_rng([seed, step, 0x4B1D])
    masked = int(count * share + generator.random())
    return (np.arange(count) - generator.integers(count)) % count < masked


def hybrid_inputs(
    batch: Packed,
    which_B: NDArray[np.bool_],
    vocabulary: Vocabulary,
    config: PretrainConfig,
    *,
    seed: int,
    step: int,
) -> dict[str, Any]:
    """What a decoder's `loss` is called with for a batch of which those sequences are masked and the others causal.

    Corruptions are drawn for all tokens, so that they are the same in every layout, and whichever sequences are masked.
    """
    import torch

    from tlm.modeling.layout import Queries
    from tlm.modeling.loss import IGNORED_LABEL
    from tlm.training.masking import Masker

    layout = batch.layout.seen_both_ways(which_B)
    masked_R = torch.from_numpy(which_B)[layout.sequence_of()]
    tokens = layout.real_R.nonzero().squeeze(1)
    corrupted, labels = Masker(vocabulary, config.mlm_probability, seed)(batch.ids_R[tokens], step)
    chosen = torch.where(masked_R[tokens], labels != IGNORED_LABEL, layout.positions_R[tokens] > 0)
    predicted = tokens[chosen]
    return {
        "ids_R": torch.where(masked_R, batch.ids_R.index_copy(0, tokens, corrupted), batch.ids_R),
        "layout": layout,
        "queries": Queries.of(layout, predicted - 1),
        "labels_N": batch.ids_R[predicted],
    }
