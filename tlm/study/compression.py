"""The evaluation `compression`: a study's fine-tuned models made smaller, without training them again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tlm.study.config import Evaluation

Method = Literal["int8", "magnitude", "wanda", "neurons", "heads"]


class Compression(Evaluation):
    """Every fine-tuned model of the study ("SVD only" apart) once more, compressed by one method."""

    kind: Literal["compression"] = "compression"
    method: Method = Field(
        description="int8: weights of one byte, a scale for each row; magnitude, wanda: single weights of the layers' "
        "matrices become zero; neurons: of the feed-forward networks, heads: of attention, are taken out whole"
    )
    share: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="of each layer's weights, neurons or heads: how many go; int8 has none"
    )

    @property
    def title(self) -> str:
        """What tables call it, behind the name of an architecture."""
        return self.method if self.share is None else f"{self.method} {100 * self.share:g} %"

    @model_validator(mode="after")
    def _what_prunes_has_a_share(self) -> Compression:
        if (self.method == "int8") != (self.share is None):
            takes = "takes no share" if self.method == "int8" else "needs a share, 0.5 for example"
            raise ValueError(f"compression: method: {self.method} {takes}")
        return self
