"""How a new model's weights begin, where that is not as its class draws them.

Shapes: V vocabulary, D hidden size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


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
