"""How a new model's weights begin, where that is not as its class draws them.

Shapes: V vocabulary, D hidden size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tlm.study.initialization import Initialization

AS_ITS_CLASS = Initialization()
"""Nothing is drawn anew."""


@torch.no_grad()
def initialize(model: nn.Module, config: Initialization) -> None:
    """Draw the weights of a new model again where `config` is not the default; biases and norms stay as they are.

    A matrix that is an embedding too (the vocabulary's projection) is an embedding.
    """
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    if config.embedding_std != AS_ITS_CLASS.embedding_std:
        for embedding in embeddings:
            zero_V = (embedding.weight == 0).all(dim=1)  # [PAD], and what the reference code freezes
            embedding.weight.normal_(0.0, config.embedding_std)[zero_V] = 0.0
    if config.matrices == "fan_in":
        tied = {id(embedding.weight) for embedding in embeddings}
        for module in model.modules():
            if isinstance(module, nn.Linear) and id(module.weight) not in tied:
                module.weight.normal_(0.0, module.in_features**-0.5)


@torch.no_grad()
def set_output_bias(model: Any, counts_V: NDArray[np.int64]) -> None:
    """Let a language model of the family's `has_output_bias` begin with the tokens' log frequencies, each seen once more.

    Its first loss is then the unigram entropy, and no step is spent on how often tokens occur.
    """
    smoothed_V = counts_V + 1.0
    bias_V = model.get_output_embeddings().bias
    bias_V.copy_(torch.from_numpy(np.log(smoothed_V / smoothed_V.sum())))


@torch.no_grad()
def set_word_vectors(model: Any, vectors_VD: NDArray[np.float32]) -> None:
    """Let the token embeddings of a transformers model begin as given vectors, where these are not zero.

    A row of zeros is a token that the vectors do not know: it keeps what the model drew. ValueError for another shape.
    """
    weight_VD = model.get_input_embeddings().weight
    if tuple(weight_VD.shape) != vectors_VD.shape:
        raise ValueError(f"vectors of shape {vectors_VD.shape} for embeddings of shape {tuple(weight_VD.shape)}")
    given_VD = torch.from_numpy(vectors_VD)
    known_V = (given_VD != 0).any(dim=1)
    weight_VD[known_V] = given_VD[known_V].to(weight_VD)
