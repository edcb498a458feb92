"""How a model's weights begin, before anything has been learnt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from tlm.study.base import Frozen, Seed

EmbeddingInit = Literal["normal", "ppmi_svd"]


class Initialization(Frozen):
    """The random numbers that a new model's weights begin as, in pre-training and in fine-tuning from scratch alike.

    The defaults are BERT's and GPT-2's: N(0, 0.02²), and less in what a decoder adds to its residual stream.
    """

    matrices: Literal["normal", "fan_in"] = Field(
        "normal", description="fan_in: N(0, 1 / inputs) for every linear map, whatever its width"
    )
    embedding_std: Annotated[float, Field(gt=0)] = Field(
        0.02, description="standard deviation of token, position and token type embeddings"
    )


class PpmiSvdConfig(Frozen):
    """Word vectors from counts: positive pointwise mutual information of tokens and their neighbours, factorised.

    Levy, Goldberg and Dagan 2015 (Transactions of the ACL 3) name its parts and compare their values.
    """

    window: PositiveInt = Field(5, description="neighbours on each side, within a paragraph, all of equal weight")
    context_power: Annotated[float, Field(gt=0, le=1)] = Field(
        0.75, description="a neighbour's probability is its count to this power: rare ones would have too much of a say"
    )
    std: Annotated[float, Field(gt=0)] = Field(0.1, description="standard deviation that the vectors are scaled to")
    seed: Seed = Field(0, description="of the randomised factorisation")
