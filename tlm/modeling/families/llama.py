"""Decoders of the Llama kind: those of arXiv 2405.14159 among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from tlm.modeling.families.base import ModelFamily, Shape, Transfer
from tlm.modeling.options import LlamaOptions, Sharing, is_routed
from tlm.study.architecture import Architecture
from tlm.study.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from tlm.data.tokenizer import Vocabulary


class Llama(ModelFamily):
    """Causal language modelling from every position, classification from the last token, [SEP]."""

    kind = "llama"
    causal = True
    predicts_next = True
    layer_names = "model.layers."
    below_layers: ClassVar[tuple[str, ...]] = ("model.embed_tokens.",)
    default_objective = "causal"
    options = LlamaOptions
    heldout_batch_size = 16
    transfer = Transfer(
        classifier_only=("score.",),
        language_model_only=("lm_head.",),  # which there is if it is not the token embeddings
        meaning=(
            "num_attention_heads",
            "num_key_value_heads",
            "bos_token_id",
            "layer_norm_eps",
            "norm",
            "ffn",
            "rope_theta",
            "sharing",
            "depth_capacity",
        ),
    )

    def check(self, architecture: Architecture) -> None:
        super().check(architecture)
        if architecture.conv_kernel_sizes or architecture.conv_channels or architecture.freeze_cls_embedding:
            raise ValueError("kind: llama has neither a convolutional front (it would see what comes) nor [CLS]")
        options, heads = _options(architecture), architecture.num_attention_heads
        if (architecture.hidden_size // heads) % 2:
            raise ValueError(f"rope turns pairs of numbers, and a head has {architecture.hidden_size // heads} of them")
        if heads % (options.num_key_value_heads or heads):
            raise ValueError(
                f"num_key_value_heads={options.num_key_value_heads} does not divide num_attention_heads={heads}"
            )
        if options.sharing:
            _check_sharing(options.sharing, architecture)
        if options.depth_capacity < 1:
            _check_routing(options, architecture)
        if options.exits and options.exits[-1] >= architecture.num_hidden_layers:
            raise ValueError(
                f"exits={list(options.exits)}: an exit is below the last layer, and {architecture.name} has "
                f"{architecture.num_hidden_layers}"
            )

    def configure(
        self, architecture: Architecture, vocabulary: Vocabulary, max_length: int, num_labels: int | None = None
    ) -> PreTrainedConfig:
        """Its `eos_token_id` is [SEP]: a text that it writes ends there."""
        config = super().configure(architecture, vocabulary, max_length, num_labels)
        config.eos_token_id = vocabulary.sep
        return config

    @property
    def language_model(self) -> type[PreTrainedModel]:
        from tlm.modeling import TinyLlamaForCausalLM

        return TinyLlamaForCausalLM

    @property
    def classifier(self) -> type[PreTrainedModel]:
        from tlm.modeling import TinyLlamaForSequenceClassification

        return TinyLlamaForSequenceClassification

    def parameters(
        self, shape: Shape, *, vocab_size: int, max_position_embeddings: int, num_labels: int | None = None
    ) -> int:
        """Embeddings V·D; layers, of what they share one only; last norm; classifier D·L, or V·D again for a language model
        whose embeddings are not tied. Positions have none.
        """
        size, tied = shape.hidden_size, _options(shape).tie_embeddings
        head = size * (num_labels or 0) if num_labels is not None or tied else size * vocab_size
        return vocab_size * size + core_parameters(shape, shared_once=True) + head

    def used_parameters(self, shape: Shape, *, vocab_size: int) -> int:
        """The same, of what layers share one for each; only one of embeddings and projection has a product."""
        return vocab_size * shape.hidden_size + core_parameters(shape, shared_once=False)

    def classifier_flops(self, shape: Shape, seq_len: int, num_labels: int) -> int:
        """Layers of which the last computes [SEP] alone, head 2DL."""
        return layers_flops(shape, seq_len, read=1) + 2 * shape.hidden_size * num_labels

    def language_model_flops(self, shape: Shape, seq_len: int, predicted: int, vocab_size: int) -> int:
        """Every row of the last layer is computed; head M·2DV for M = `predicted` positions, which the loss has at every
        exit too.
        """
        heads = 1 + len(_options(shape).exits)
        return layers_flops(shape, seq_len, read=seq_len) + heads * 2 * shape.hidden_size * vocab_size * predicted

    def sequential_depth(self, shape: Shape) -> int:
        """Six for each layer, as in other decoders, one for each router and one for the classifier. A layer's own part is
        two products beside one: one more wherever a map has such a part, maps of the same input counted once.
        """
        sharing = _options(shape).sharing
        inputs = {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"}
        own = sum(_rank(name, sharing) > 0 for name in inputs)
        shared = len(sharing.layers(shape.num_hidden_layers)) if sharing else 0
        return 6 * shape.num_hidden_layers + own * shared + _routed(shape) + 1


def _options(shape: Shape) -> LlamaOptions:
    """Of an architecture, or of a model's configuration, which has them among its fields."""
    if isinstance(shape, Architecture):
        given = shape.options
        return given if isinstance(given, LlamaOptions) else LlamaOptions.model_validate(dict(given))
    own = {name: getattr(shape, name) for name in LlamaOptions.model_fields if name != "tie_embeddings"}
    return LlamaOptions.model_validate({**own, "tie_embeddings": shape.tie_word_embeddings})  # type: ignore[attr-defined]


def _check_sharing(sharing: Sharing, architecture: Architecture) -> None:
    layers, narrow = architecture.num_hidden_layers, min(architecture.hidden_size, architecture.intermediate_size)
    if 2 * sharing.keep + 1 >= layers:
        raise ValueError(
            f"sharing.keep={sharing.keep} of {layers} layers leaves {max(layers - 2 * sharing.keep, 0)} between those at "
            "either end, and two at least have to share"
        )
    if sharing.lora_rank and sharing.lora_rank > narrow:
        raise ValueError(
            f"sharing.lora_rank={sharing.lora_rank} is above {narrow}, the lesser of hidden_size and intermediate_size"
        )


def _check_routing(options: LlamaOptions, architecture: Architecture) -> None:
    capacity = f"depth_capacity={options.depth_capacity:g}"
    if architecture.num_hidden_layers == 1:
        raise ValueError(f"{capacity} is of every second layer, and {architecture.name} has one layer")
    if options.sharing and options.sharing.what == "block":
        raise ValueError(
            f"{capacity}: layers that share all they have (sharing: block) cannot have routers of their own"
        )
    if options.exits:
        raise ValueError(f"{capacity} and exits={list(options.exits)}: give one of the two")


def _routed(shape: Shape) -> int:
    """How many layers have a router."""
    return sum(is_routed(_options(shape), layer) for layer in range(shape.num_hidden_layers))


def _maps(shape: Shape) -> Iterator[tuple[str, int, int]]:
    """The linear maps of one layer: name, inputs, outputs."""
    size, wide, options = shape.hidden_size, shape.intermediate_size, _options(shape)
    heads = shape.num_attention_heads
    kept = size // heads * (options.num_key_value_heads or heads)
    yield from (("self_attn.q_proj", size, size), ("self_attn.o_proj", size, size))
    yield from (("self_attn.k_proj", size, kept), ("self_attn.v_proj", size, kept))
    if options.ffn == "swiglu":
        yield "mlp.gate_proj", size, wide
    yield from (("mlp.up_proj", size, wide), ("mlp.down_proj", wide, size))


def _rank(name: str, sharing: Sharing | None) -> int:
    """Of the part of its own that a layer which shares has on top of a map; 0 if there is none."""
    return sharing.lora_rank or 0 if sharing and sharing.covers(f"{name}.") else 0


def _norm(shape: Shape) -> int:
    options = _options(shape)
    return shape.hidden_size * (1 + (options.norm == "layer_norm" and options.bias))


def core_parameters(shape: Shape, *, shared_once: bool) -> int:
    """Of all layers and the norm after them; what layers share counts once, or for each of them."""
    return _layers(shape, shared_once=shared_once) + _norm(shape)


def _layers(shape: Shape, *, shared_once: bool) -> int:
    """Parameters of all layers: linear maps with a bias or without, two norms each, routers D, and what is a layer's own
    beside what it shares."""
    options = _options(shape)
    weights = {f"{name}.": inputs * outputs + options.bias * outputs for name, inputs, outputs in _maps(shape)}
    weights |= {"input_layernorm.": _norm(shape), "post_attention_layernorm.": _norm(shape)}
    total = shape.num_hidden_layers * sum(weights.values()) + _routed(shape) * shape.hidden_size
    if (sharing := options.sharing) is None:
        return total
    shared = len(sharing.layers(shape.num_hidden_layers))
    own = sum(_rank(name, sharing) * (inputs + outputs) for name, inputs, outputs in _maps(shape))
    again = sum(count for name, count in weights.items() if sharing.covers(name)) if shared_once else 0
    return total + shared * own - (shared - 1) * again


def layers_flops(shape: Shape, seq_len: int, read: int) -> int:
    """Of all layers, where of the last one only R = `read` rows are computed: 2 for each weight of keys and values T times,
    of the other maps R times, scores and context 4RTD; of a layer's own part likewise. R = T in all but the last.
    """
    layers = shape.num_hidden_layers
    return sum(layer_flops(shape, index, seq_len, seq_len if index < layers - 1 else read) for index in range(layers))


def exit_flops(config: Shape, length: int, depth: int, heads: int) -> float:
    """Of one token of a sequence of so many, by a model's configuration, if it leaves after `depth` layers: these, keys and
    values of those above, and so many products with the vocabulary."""
    whole = sum(layer_flops(config, index, length, length) for index in range(depth))
    above = sum(layer_flops(config, index, length, 0) for index in range(depth, config.num_hidden_layers))
    vocabulary = int(config.vocab_size)  # type: ignore[attr-defined]
    return (whole + above) / length + heads * 2 * config.hidden_size * vocabulary


def layer_flops(shape: Shape, index: int, seq_len: int, rows: int) -> int:
    """Of one layer, of which so many rows are computed, and keys and values of all. Of a routed one the router's product
    for all, and the rest for those that go through it, whichever rows are wanted."""
    options = _options(shape)
    if is_routed(options, index):
        through = round(options.depth_capacity * seq_len)
        return 2 * seq_len * shape.hidden_size + _dense_flops(shape, index, through, through)
    return _dense_flops(shape, index, seq_len, rows)


def _dense_flops(shape: Shape, index: int, seq_len: int, rows: int) -> int:
    sharing = _options(shape).sharing
    shares = sharing if sharing and index in sharing.layers(shape.num_hidden_layers) else None
    flops = 4 * rows * seq_len * shape.hidden_size
    for name, inputs, outputs in _maps(shape):
        times = seq_len if name in ("self_attn.k_proj", "self_attn.v_proj") else rows
        flops += 2 * times * (inputs * outputs + _rank(name, shares) * (inputs + outputs))
    return flops


FAMILIES.register(Llama.kind, Llama())
