"""Where an encoder may differ from BERT. Imports no torch: a study is planned with this."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tlm.study.base import added
from tlm.study.families import Options


class EncoderOptions(Options):
    """Where later encoders differ from BERT. The embeddings are normalised in each; what is normalised before its layers is
    normalised after the last one too."""

    norm_position: Literal["post", "pre"] = added("post", description="of normalisation, around each part of a layer")
    norm: Literal["layer_norm", "rms_norm"] = added("layer_norm", description="rms_norm: no mean, and no bias")
    position_embedding_type: Literal["absolute", "rope"] = added(
        "absolute", description="rope: queries and keys are turned by their position, and no position is learned"
    )
    rope_theta: Annotated[float, Field(gt=1)] = added(10_000.0, description="base of the angles of rope")
    bias: bool = added(
        True, description="of linear maps and normalisations; the logits of words and of labels always have one"
    )
