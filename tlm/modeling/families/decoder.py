"""GPT-2-style decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.modeling.families.base import ModelFamily, Pieces, Shape, Transfer, layer_parameters, layers_flops
from tlm.study.architecture import Architecture
from tlm.study.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Decoder(ModelFamily):
    """Causal language modelling from every position, classification from the last token, [SEP]."""

    kind = "decoder"
    causal = True
    predicts_next = True
    layer_names = "transformer.h."
    below_layers = ("transformer.wte.", "transformer.wpe.")
    default_objective = "causal"
    heldout_batch_size = 16
    transfer = Transfer(
        classifier_only=("score.",),
        language_model_only=(),  # its head is the token embeddings
        meaning=("num_attention_heads", "bos_token_id", "layer_norm_eps"),
    )

    def check(self, architecture: Architecture) -> None:
        super().check(architecture)
        if architecture.conv_kernel_sizes or architecture.conv_channels or architecture.freeze_cls_embedding:
            raise ValueError("kind: decoder has neither a convolutional front (it would see what comes) nor [CLS]")

    @property
    def language_model(self) -> type[PreTrainedModel]:
        from tlm.modeling import TinyGptForCausalLM

        return TinyGptForCausalLM

    @property
    def classifier(self) -> type[PreTrainedModel]:
        from tlm.modeling import TinyGptForSequenceClassification

        return TinyGptForSequenceClassification

    def neurons(self, shape: Shape) -> Pieces:
        return Pieces("intermediate_size", shape.intermediate_size, 1, ("mlp.c_fc",), "mlp.c_proj")

    def parameters(
        self, shape: Shape, *, vocab_size: int, max_position_embeddings: int, num_labels: int | None = None
    ) -> int:
        """Embeddings (V + P)·D; layers; last LayerNorm 2D; classifier D·L (the language model's head is the embeddings).
        P positions.
        """
        size = shape.hidden_size
        embeddings = (vocab_size + max_position_embeddings) * size
        return embeddings + shape.num_hidden_layers * layer_parameters(shape) + 2 * size + size * (num_labels or 0)

    def classifier_flops(self, shape: Shape, seq_len: int, num_labels: int) -> int:
        """Layers of which the last computes [SEP] alone, head 2DL."""
        return layers_flops(shape, seq_len, read=1) + 2 * shape.hidden_size * num_labels

    def language_model_flops(self, shape: Shape, seq_len: int, predicted: int, vocab_size: int) -> int:
        """Every row of the last layer is computed; head M·2DV for M = `predicted` positions."""
        return layers_flops(shape, seq_len, read=seq_len) + 2 * shape.hidden_size * vocab_size * predicted

    def sequential_depth(self, shape: Shape) -> int:
        """Six for each layer, as in an encoder, and one for the classifier."""
        return 6 * shape.num_hidden_layers + 1


FAMILIES.register(Decoder.kind, Decoder())
