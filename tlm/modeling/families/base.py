"""What a family of models is. To add one: a module with a subclass, registered under its `kind`, and a line in
`tlm.study.families.FAMILIES`; outside the package, a module that is named as an extension (`tlm.machine.extensions`).

Imports no torch: a study is planned with this. Methods that make models import what they need.

Shapes: T sequence length, D hidden size, V vocabulary, L labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from tlm.study.architecture import Architecture
from tlm.study.families import FAMILIES, Options

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from tlm.data.ragged import Ragged
    from tlm.data.tokenizer import Vocabulary
    from tlm.modeling.packing import Pack


class Shape(Protocol):
    """The fields that set a model's cost: an `Architecture`, or a model's configuration."""

    @property
    def kind(self) -> str: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def conv_kernel_sizes(self) -> Sequence[tuple[int, int]]: ...
    @property
    def conv_channels(self) -> int: ...


@dataclass(frozen=True)
class Transfer:
    """From a language model to a classifier.

    Args:
        classifier_only: beginnings of the weights' names that only the classifier has.
        language_model_only: those that only the language model has.
        meaning: settings that change what weights compute but no weight's shape, and so must agree.
    """

    classifier_only: tuple[str, ...]
    language_model_only: tuple[str, ...]
    meaning: tuple[str, ...]


@dataclass(frozen=True)
class ParameterCounts:
    """The parameters of a language model, as its paper's claims are to be read.

    Args:
        stored: all; what layers share, and what is tied, counts once. A saved model has so many numbers.
        embeddings_and_head: of them those below the layers and above their last norm.
        used: those that a token is computed with: what layers share counts for each of them, a table of which it reads one
            row does not, the projection onto the vocabulary does.
    """

    stored: int
    embeddings_and_head: int
    used: int

    @property
    def core(self) -> int:
        """The stored ones that are neither embeddings nor head: layers, and the norm after them."""
        return self.stored - self.embeddings_and_head


@dataclass(frozen=True)
class Pieces:
    """What each layer of a model has several of, so that some can be taken out whole.

    Args:
        amount: the field of an architecture that says how many there are in a layer.
        count: so many.
        width: rows of a weight that one of them has.
        into: the linear maps, by their names within the layer, whose rows are theirs.
        out_of: the one whose columns are theirs.
        options: of an architecture, what has to be said once some are gone.
    """

    amount: str
    count: int
    width: int
    into: tuple[str, ...]
    out_of: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def kept(self, architecture: Architecture, remaining: int) -> Architecture:
        """The architecture with so many of them."""
        if remaining == self.count:
            return architecture
        options = {**dict(architecture.options), **self.options}
        return Architecture.model_validate({**dict(architecture), self.amount: remaining, "options": options})


class ModelFamily(ABC):
    """All that follows from `Architecture.kind`.

    The configuration class of its models has the same `kind` as a class attribute. A language model has
    `loss(**inputs)`, the mean loss of a batch, and `logits(**inputs)` without its labels (N, V), for the inputs of the
    objectives that work with it; a classifier has `loss(ids_R, layout, labels_B)`, `logits(ids_R, layout)` (B, L) in the
    order of the layout, and `num_labels`.
    """

    kind: ClassVar[str]
    units: ClassVar[Literal["subword", "byte"]] = "subword"
    """What its models read: `TokenizerConfig.units`."""
    causal: ClassVar[bool]
    """Whether a position sees only those before it."""
    predicts_next: ClassVar[bool] = False
    """Whether its language models are a `tlm.modeling.decoder_heads.NextToken`, which objectives may look into: each row's
    state predicts the token that follows, and attention sees sequences both ways where a layout says so."""
    layer_names: ClassVar[str] = ""
    """What the names of its layers' weights begin with, before the layer's number; empty if it has no layers."""
    below_layers: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of the weights that come before the layers."""
    has_output_bias: ClassVar[bool] = False
    """Whether `get_output_embeddings()` of its language models has a bias."""
    default_objective: ClassVar[str]
    options: ClassVar[type[Options]] = Options
    """The model of the fields that only its architectures have, in `Architecture.options`."""
    reference_habits: ClassVar[Mapping[str, Any]] = {}
    """Fields of an architecture as the paper's released code has them, where that differs from the defaults."""
    transfer: ClassVar[Transfer]
    heldout_batch_size: ClassVar[int]
    """Sequences in a batch of held-out evaluation: every predicted position has logits over the whole vocabulary."""

    def check(self, architecture: Architecture) -> None:
        """Raise ValueError, naming fields and values, if there is no model of this shape."""
        if architecture.hidden_size % architecture.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={architecture.num_attention_heads} does not divide "
                f"hidden_size={architecture.hidden_size}"
            )

    # --- models ---

    def configure(
        self, architecture: Architecture, vocabulary: Vocabulary, max_length: int, num_labels: int | None = None
    ) -> PreTrainedConfig:
        """transformers' configuration of a model over one vocabulary; `num_labels` for a classifier.

        It is what the `from_architecture` of its models' configuration class makes; a family may have another way.
        """
        return self.language_model.config_class.from_architecture(
            architecture,
            vocab_size=len(vocabulary),
            max_position_embeddings=max_length,
            pad_token_id=vocabulary.pad,
            cls_token_id=vocabulary.cls,
            num_labels=num_labels,
        )

    @property
    @abstractmethod
    def language_model(self) -> type[PreTrainedModel]:
        """The class of its language models."""

    @property
    @abstractmethod
    def classifier(self) -> type[PreTrainedModel]:
        """The class of its classifiers."""

    def packer(self, config: PreTrainedConfig, device: str) -> Pack:
        """How sequences become a batch of a model with this configuration on a device."""
        from tlm.modeling.packing import packer

        return packer(config.hidden_size, device)

    def made_up(self, texts: Ragged, shape: Shape) -> Ragged:
        """Random ids, none of a special token, as texts that such a model reads: for measuring what a step takes."""
        return texts

    def depth_of(self, name: str, layers: int) -> int:
        """How high up a weight stands, by its name: 0 below the layers, i + 1 in layer i, `layers` + 1 above them."""
        if name.startswith(self.below_layers):
            return 0
        if name.startswith(self.layer_names):
            return int(name.removeprefix(self.layer_names).partition(".")[0]) + 1
        return layers + 1

    def neurons(self, shape: Shape) -> Pieces | None:
        """The neurons of its layers' feed-forward networks; None if it is not known how to take some out."""
        return None

    def heads(self, shape: Shape) -> Pieces | None:
        """The heads of its layers' attention; None likewise."""
        return None

    # --- cost ---

    def claim(self, shape: Shape) -> str:
        """What is to be said of its parameters beside the numbers, sentences; empty: nothing."""
        return ""

    @abstractmethod
    def parameters(
        self, shape: Shape, *, vocab_size: int, max_position_embeddings: int, num_labels: int | None = None
    ) -> int:
        """The parameters of the classifier with `num_labels`, or without it of the language model."""

    def parameter_counts(self, shape: Shape, *, vocab_size: int, max_position_embeddings: int) -> ParameterCounts:
        """What of a language model's parameters is stored, what of it is embeddings and head, and what a token uses."""
        sizes = {"vocab_size": vocab_size, "max_position_embeddings": max_position_embeddings}
        return ParameterCounts(
            self.parameters(shape, **sizes),
            self.embeddings_and_head(shape, **sizes),
            self.used_parameters(shape, vocab_size=vocab_size),
        )

    def embeddings_and_head(self, shape: Shape, *, vocab_size: int, max_position_embeddings: int) -> int:
        """By default the parameters that grow with vocabulary and positions."""
        whole = self.parameters(shape, vocab_size=vocab_size, max_position_embeddings=max_position_embeddings)
        return whole - self.parameters(shape, vocab_size=0, max_position_embeddings=0)

    def used_parameters(self, shape: Shape, *, vocab_size: int) -> int:
        """By default all but positions: those of the vocabulary's projection, which is the token embeddings."""
        return self.parameters(shape, vocab_size=vocab_size, max_position_embeddings=0)

    @abstractmethod
    def classifier_flops(self, shape: Shape, seq_len: int, num_labels: int) -> int:
        """Floating point operations, two for each multiply-add, of one sequence's forward pass as implemented."""

    @abstractmethod
    def language_model_flops(self, shape: Shape, seq_len: int, predicted: int, vocab_size: int) -> int:
        """The same of a language model that predicts so many positions of a sequence of T = `seq_len` tokens."""

    @abstractmethod
    def sequential_depth(self, shape: Shape) -> int:
        """Matrix products and convolutions of a classifier that have to wait for each other.

        It is what bounds the time on a perfectly parallel machine, on which the members of a committee do not wait for
        each other. Look-ups, norms, softmax and activations are not counted: they do little work.
        """


def family_of(shape: Any) -> ModelFamily:
    """The family of an `Architecture` or of a model's configuration. Raises ValueError for an unknown kind."""
    return family_named(shape.kind)


def family_named(kind: str) -> ModelFamily:
    """The family of that kind. Raises ValueError, with those that exist, if there is none."""
    family = FAMILIES[kind]
    assert isinstance(family, ModelFamily)
    return family


def layer_parameters(shape: Shape) -> int:
    """Of one transformer layer: 4(D² + D) + (DF + F) + (FD + D) + 4D."""
    size, wide = shape.hidden_size, shape.intermediate_size
    return 4 * (size * size + size) + (size * wide + wide) + (wide * size + size) + 4 * size


def layers_flops(shape: Shape, seq_len: int, read: int, heads: int | None = None) -> int:
    """Of all transformer layers, where of the last one only R = `read` rows are computed.

    Each layer: keys and values 4TDA, queries 2RDA, scores and context 4RTA (causal attention too: what comes later is
    multiplied, then masked), output and feed-forward R(2DA + 4DF); R = T in all but the last. A = `heads` is the width of
    all heads together, by default D.
    """
    size, wide, heads = shape.hidden_size, shape.intermediate_size, heads or shape.hidden_size

    def layer(rows: int) -> int:
        projections = 2 * size * heads * (2 * seq_len + rows)
        return projections + 4 * rows * seq_len * heads + rows * (2 * size * heads + 4 * size * wide)

    return (shape.num_hidden_layers - 1) * layer(seq_len) + layer(read)
