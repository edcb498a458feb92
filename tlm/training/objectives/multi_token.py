"""Several next tokens at once (Gloeckle et al. 2024, arXiv 2404.19737)."""

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


class MultiToken(LanguageObjective):
    """Every position predicts the next token, the one after that, and so on, each by a head of its own; the loss is the
    mean over heads. What comes of it is the model with its first head, and held-out loss and accuracy are that one's.
    """

    kind: Literal["multi_token"] = "multi_token"
    tokens: Annotated[int, Field(ge=2)] = Field(4, description="that each position predicts")
    exact: ClassVar[bool] = True
    trains_exits: ClassVar[bool] = False

    def works_with(self, family: Family) -> bool:
        """Decoders of tokens."""
        return family.predicts_next

    def predicted_positions(self, config: PretrainConfig, length: int) -> float:
        """Of all heads together: what each projects onto the vocabulary. Their own maps are not counted."""
        return sum(max(0, length - ahead) for ahead in range(1, self.tokens + 1))

    def inputs(self, batch: Packed, vocabulary: Vocabulary, config: PretrainConfig, *, seed: int, step: int) -> Inputs:
        """The batch as it is, and for each row the tokens that follow it, as far as its sequence goes."""
        import torch

        from tlm.modeling.loss import IGNORED_LABEL
        from tlm.training.masking import next_token_inputs

        inputs = next_token_inputs(batch)
        rows_N1 = inputs["queries"].rows_N[:, None]
        ahead_A = torch.arange(1, self.tokens + 1)
        rows_NA = (rows_N1 + ahead_A).clamp(max=len(batch.ids_R) - 1)
        layout = batch.layout
        # Positions go on by one from row to row within a sequence, and nowhere else.
        same_NA = layout.positions_R[rows_NA] == layout.positions_R[rows_N1] + ahead_A
        labels_NA = torch.where(same_NA & layout.real_R[rows_NA], batch.ids_R[rows_NA], IGNORED_LABEL)
        return {**{name: value for name, value in inputs.items() if name != "labels_N"}, "labels_NA": labels_NA}

    def trained_module(self, model: Any) -> Any:
        """The model with the heads beside its own."""
        from tlm.training.objectives.further_heads import FurtherHeads

        return FurtherHeads(model, self.tokens - 1)

    def heldout_sums(self, module: Any, inputs: Mapping[str, Any]) -> Sums:
        """`loss` and `accuracy` of the next token; `loss_2`, `accuracy_2` of the one after it, and so on."""
        from torch.nn.functional import cross_entropy

        from tlm.modeling.loss import IGNORED_LABEL

        sums: Sums = {}
        others = dict(inputs)
        labels_NA = others.pop("labels_NA")
        for number, (logits_NV, labels_N) in enumerate(zip(module.logits(**others), labels_NA.unbind(1), strict=True)):
            name = f"_{number + 1}" if number else ""
            count = int((labels_N != IGNORED_LABEL).sum())
            loss = cross_entropy(logits_NV.float(), labels_N, ignore_index=IGNORED_LABEL, reduction="sum")
            sums[f"loss{name}"] = (loss, count)
            sums[f"accuracy{name}"] = ((logits_NV.argmax(dim=1) == labels_N).sum(), count)
        return sums
