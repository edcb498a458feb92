"""Training in which a step is one launch: forward, backward and AdamW captured in a CUDA graph for each size of batch.

The step of BERT-6 on 32 sequences is a millisecond of products in four hundred launches, so launches are what a plain
loop waits for. Here the host copies one vector (`tlm.training.prepacked`) and launches one graph; losses stay on the
device until they are asked for. Without a GPU the same step runs uncaptured, which is how it is tested.

The backward pass is taken layer by layer, so that AdamW may move the weights of one layer, which is all memory traffic,
while the products of the next are computed.

Shapes: S sequences, R rows, N queries, D hidden size; T steps, E evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tlm.machine.precision import Resolved
from tlm.modeling import TinyBertForMaskedLM, TinyBertForSequenceClassification
from tlm.modeling.loss import IGNORED_LABEL
from tlm.modeling.options import EncoderOptions
from tlm.modeling.packed import (
    Attention,
    ClassifierHead,
    Form,
    LayerWeights,
    MaskedHead,
    Spans,
    class_logits,
    class_loss,
    embedded,
    last_layer,
    layer,
    masked_loss,
)
from tlm.study.config import Optimisation, Optimizer
from tlm.training import prepacked
from tlm.training.flat import EPSILON, Block, Flat, adamw, fused_adamw, padded
from tlm.training.prepacked import HEADER, LABEL_BITS, NO_LABEL, Size, Vector

Model = TinyBertForMaskedLM | TinyBertForSequenceClassification
WARM_UPS = 3
ONLY_AS_USUAL = {
    "packing": False,
    "embedding_init": "normal",
    "output_bias": "zeros",
    "dropout": None,
    "dropout_schedule": "constant",
    "layer_drop": 0.0,
    "layer_decay": 1.0,
}
"""Fields of a training that what runs captured steps (`tlm.training.replay`) does not read."""


@dataclass(frozen=True)
class Engine:
    """How steps are run; their results agree but for rounding and for which elements dropout drops."""

    attention: Attention = "rectangle"
    compiled: bool = False
    captured: bool = False
    overlapped: bool = False
    """AdamW on a stream of its own, beside the rest of the backward pass; if fused, also what only AdamW waits for."""
    fused: bool = False
    """By `tlm.training.fused` and Triton's kernels, which see to attention and need no compiler."""

    def __str__(self) -> str:
        flags = ("compiled", "fused", "overlapped")
        parts = [self.attention, *(flag if getattr(self, flag) else "" for flag in flags)]
        return " ".join(filter(None, [*parts, "graphs" if self.captured else "launched"]))


class Inputs(NamedTuple):
    """A step's vector, taken apart."""

    header: Tensor
    numbers: Tensor
    """The header's float32."""
    ids_R: Tensor
    positions_R: Tensor
    rows_N: Tensor
    labels_N: Tensor
    spans: Spans


def inputs_of(vector: Tensor, size: Size) -> Inputs:
    """Read a vector. Whatever is unpacked becomes a tensor of its own; the starts stay views."""
    header, tokens, queries, starts, query_starts = torch.split(vector[: size.length], [HEADER, *size.parts])
    tokens_R, queries_N = tokens[: size.rows], queries[: size.queries]
    labels_N = queries_N & NO_LABEL
    return Inputs(
        header,
        header.view(torch.float32),
        (tokens_R & NO_LABEL).long(),
        (tokens_R >> LABEL_BITS).long(),
        (queries_N >> LABEL_BITS).long(),
        torch.where(labels_N == NO_LABEL, IGNORED_LABEL, labels_N).long(),
        Spans(starts[: size.sequences + 1], query_starts[: size.sequences + 1]),
    )


@dataclass
class _Segment:
    """A part of the model that is taken backwards on its own: its weights, and where their gradients go."""

    weights: tuple[Tensor, ...]
    targets: list[Tensor]
    span: tuple[int, int] | None
    """Of its products, in the flat tensors."""


@dataclass
class Stepper:
    """A model with everything that a step of it needs. `model`'s parameters always hold the current weights."""

    model: Model
    config: Optimisation
    precision: Resolved
    engine: Engine
    longest: int
    capacity: int
    """The most steps of a run, or evaluations, whose results are kept."""
    graphs: dict[Size, tuple[Any, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = self.model.config
        if own.kind != "encoder" or own.conv_kernel_sizes or own.freeze_cls_embedding:
            raise ValueError("only encoders without convolutions, and with a [CLS] that learns, have a captured step")
        if unusual := [name for name, value in dict(EncoderOptions()).items() if getattr(own, name) != value]:
            raise ValueError(f"only encoders with BERT's own {', '.join(unusual)} have a captured step")
        if self.config.optimizer != Optimizer.registry["adamw"]():
            raise ValueError(f"only adamw as it is by default has a captured step, {self.config.optimizer} has none")
        for name, usual in ONLY_AS_USUAL.items():
            if getattr(self.config, name, usual) != usual:
                raise ValueError(f"what has a captured step is trained with {name} {usual!r} alone")
        objective = getattr(self.config, "objective", None)
        if objective is not None and objective.kind != "masked":
            raise ValueError(f"only masked language modelling has a captured step, {objective.kind} has none")
        self.device = next(self.model.parameters()).device
        self.form = Form(
            own.num_attention_heads,
            self.longest,
            own.hidden_dropout_prob,
            own.attention_probs_dropout_prob,
            own.layer_norm_eps,
            self.engine.attention,
        )
        self._lay_out()
        with torch.device(self.device):
            self.noise_1 = torch.zeros(1, dtype=torch.int32)
            self.losses_T = torch.full((self.capacity,), torch.nan)
            self.right_E = torch.full((self.capacity,), -1, dtype=torch.int64)
        overlapped = self.engine.overlapped and self.device.type == "cuda" and self.config.max_grad_norm is None
        self._beside = torch.cuda.Stream() if overlapped else None  # type: ignore[no-untyped-call]
        # Of its own: products keep a workspace for each stream, and graphs of several steppers may run side by side.
        self._side: Any = torch.cuda.Stream() if self.engine.captured else None  # type: ignore[no-untyped-call]
        self._functions()
        self._fused = self._fused_step() if self.engine.fused else None

    def reseed(self, seed: int) -> None:
        """What dropout drops follows from here on, from `seed`."""
        torch.manual_seed(seed)
        self.noise_1.fill_(seed & 0x7FFFFFFF)

    # --- layout ---

    def _lay_out(self) -> None:
        own = self.model.config
        size, wide = own.hidden_size, own.intermediate_size
        vocabulary = padded(own.vocab_size)
        layers = [_layer_blocks(f"bert.encoder.layer.{i}", size, wide) for i in range(own.num_hidden_layers)]
        head = _masked_blocks(size, vocabulary) if self.masked else _class_blocks(size, self.model.num_labels)
        norm = _norm_blocks("bert.embeddings.LayerNorm", size)
        tables = [
            Block(("bert.embeddings.position_embeddings.weight",), (own.max_position_embeddings, size)),
            Block(("bert.embeddings.token_type_embeddings.weight",), (own.type_vocab_size, size)),
        ]
        products = [[b for b in blocks if not _is_norm(b)] for blocks in (*layers, head)]
        norms = [b for blocks in (norm, *layers, head) for b in blocks if _is_norm(b)]
        self.flat = Flat(
            self.model,
            [block for blocks in products for block in blocks],
            [*tables, *norms],
            dtype=torch.bfloat16 if self.precision == "bfloat16" else torch.float32,
            words_multiply=self.masked,
        )
        self.positions, self.types = tables
        self.embedding = self._segment(norm)
        self.layers = [self._segment(blocks) for blocks in layers]
        self.head = self._segment(head)
        if self.masked:
            words = self.flat.leaf(self.flat.words)
            self.head.weights = (*self.head.weights, words)

    @property
    def masked(self) -> bool:
        """Whether it is a masked language model, not a classifier."""
        return isinstance(self.model, TinyBertForMaskedLM)

    def _segment(self, blocks: list[Block]) -> _Segment:
        flat = self.flat
        weights = tuple(flat.wide_leaf(b) if _is_norm(b) else flat.leaf(b) for b in blocks)
        products = [block for block in blocks if not _is_norm(block)]
        return _Segment(weights, [flat.gradient(b) for b in blocks], flat.span(products) if products else None)

    def _functions(self) -> None:
        form = self.form

        def own_embedded(x_RD: Tensor, norm: Tensor, bias: Tensor) -> Tensor:
            return embedded(x_RD, norm, bias, form)

        def own_layer(x_RD: Tensor, w: LayerWeights, spans: Spans) -> Tensor:
            return layer(x_RD, w, spans, form)

        def own_last_layer(x_RD: Tensor, w: LayerWeights, spans: Spans, rows_N: Tensor) -> Tensor:
            return last_layer(x_RD, w, spans, rows_N, form)

        def own_masked_loss(x_ND: Tensor, head: MaskedHead, labels_N: Tensor, scale: Tensor) -> Tensor:
            return masked_loss(x_ND, head, labels_N, scale, form)

        def own_class_loss(x_ND: Tensor, head: ClassifierHead, labels_N: Tensor, scale: Tensor) -> Tensor:
            return class_loss(x_ND, head, labels_N, scale, form)

        compiled: Callable[[Any], Any] = torch.compile if self.engine.compiled else lambda function: function
        self._embedded, self._layer, self._last_layer = (
            compiled(function) for function in (own_embedded, own_layer, own_last_layer)
        )
        self._loss = compiled(own_masked_loss if self.masked else own_class_loss)
        self._adamw = torch.compile(adamw, dynamic=True) if self.engine.compiled else adamw

    def _fused_step(self) -> Any:
        from tlm.modeling.kernels import Tables
        from tlm.training.fused import FusedStep  # Triton is not everywhere

        flat = self.flat
        tables = (flat.words, self.positions, self.types)
        head: Any = MaskedHead if self.masked else ClassifierHead
        words = [flat.gradient(flat.words)] if self.masked else []

        def update(number: int, numbers: Tensor) -> None:
            span = (self.layers[number] if number >= 0 else self.head).span
            if span is not None and self.config.max_grad_norm is None:
                self._update(span, numbers)

        return FusedStep(
            self.form,
            Tables(*map(flat.wide, tables), *self.embedding.weights),
            Tables(*map(flat.gradient, tables), *self.embedding.targets),
            [LayerWeights(*segment.weights) for segment in self.layers],
            [LayerWeights(*segment.targets) for segment in self.layers],
            head(*self.head.weights),
            head(*self.head.targets, *words),
            int(self.model.config.pad_token_id),
            self.noise_1,
            update,
            self._beside,
        )

    # --- a step ---

    def step(self, inputs: Inputs) -> None:
        """Forward, backward, AdamW; the loss goes to its place in `losses_T`."""
        if self._fused is not None:
            self._keep_loss(inputs, self._fused.step(_where(inputs), inputs.numbers))
            self._finish(inputs.numbers)
            return
        loss, parts = self._forward(inputs)
        self._keep_loss(inputs, loss.detach())
        gradient: Tensor | None = None
        for segment, entry, out in reversed(parts):
            grads = torch.autograd.grad(out, (entry, *segment.weights), gradient)
            gradient, own = grads[0], grads[1:]
            self._collect(segment, own)
            if self.config.max_grad_norm is None and segment.span is not None:
                self._update_beside(segment.span, inputs.numbers)
        assert gradient is not None
        self._collect_embeddings(gradient, inputs)
        self._finish(inputs.numbers)

    def _keep_loss(self, inputs: Inputs, loss: Tensor) -> None:
        self.losses_T.index_copy_(0, inputs.header[prepacked.STEP].long().view(1), loss.view(1))

    def _forward(self, inputs: Inputs) -> tuple[Tensor, list[tuple[_Segment, Tensor, Tensor]]]:
        """The loss, and each segment with what went in and what came out."""
        flat = self.flat
        tables = (flat.wide(flat.words), flat.wide(self.positions), flat.wide(self.types))
        x = tables[0].index_select(0, inputs.ids_R) + tables[1].index_select(0, inputs.positions_R) + tables[2][0]
        parts = []

        def run(segment: _Segment, x: Tensor, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
            entry = x.detach().requires_grad_()
            if self.engine.compiled:
                for tensor in (entry, *(a for a in arguments if isinstance(a, Tensor) and a.ndim)):
                    torch._dynamo.maybe_mark_dynamic(tensor, 0)
            out = function(entry, *arguments)
            parts.append((segment, entry, out))
            return out

        x = run(self.embedding, x, lambda x, *w: self._embedded(x, *self.embedding.weights))
        for segment in self.layers[:-1]:
            x = run(segment, x, self._layer, LayerWeights(*segment.weights), inputs.spans)
        last = LayerWeights(*self.layers[-1].weights)
        x = run(self.layers[-1], x, self._last_layer, last, inputs.spans, inputs.rows_N)
        head = (MaskedHead if self.masked else ClassifierHead)(*self.head.weights)
        scale = inputs.numbers[prepacked.LOSS_SCALE]
        return run(self.head, x, self._loss, head, inputs.labels_N, scale), parts

    def _collect(self, segment: _Segment, grads: Sequence[Tensor]) -> None:
        """Write a segment's gradients where AdamW reads them."""
        for kind in (torch.float32, torch.bfloat16):  # lists of one dtype are copied by one kernel
            chosen = [pair for pair in zip(segment.targets, grads, strict=False) if pair[0].dtype == kind]
            if chosen:
                torch._foreach_copy_([target for target, _ in chosen], [grad for _, grad in chosen])
        if segment is self.head:
            words = self.flat.gradient(self.flat.words)
            words.copy_(grads[-1]) if self.masked else words.zero_()

    def _collect_embeddings(self, gradient_RD: Tensor, inputs: Inputs) -> None:
        """The sum of the embeddings has one gradient, which belongs to the rows that were added."""
        flat = self.flat
        words, pad = flat.gradient(flat.words), self.model.config.pad_token_id
        before = words[pad].clone()
        words.index_add_(0, inputs.ids_R, gradient_RD)
        words[pad].copy_(before)  # reading [PAD] gives no gradient (a masked token may have become one)
        flat.gradient(self.positions).zero_().index_add_(0, inputs.positions_R, gradient_RD)
        torch.sum(gradient_RD, 0, out=flat.gradient(self.types)[0])

    def _update_beside(self, span: tuple[int, int], numbers: Tensor) -> None:
        if self._beside is None:
            self._update(span, numbers)
            return
        self._beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._beside):
            self._update(span, numbers)

    def _finish(self, numbers: Tensor) -> None:
        """Update what is left: the embeddings and normalisations, or everything if gradients are clipped first."""
        flat = self.flat
        if self.config.max_grad_norm is not None:
            self._clip(self.config.max_grad_norm)
            self._update((0, flat.products_end), numbers)
        self._update((flat.products_end, flat.words_end), numbers)
        self._update((flat.words_end, flat.end), numbers)
        if self._beside is not None:
            torch.cuda.current_stream().wait_stream(self._beside)

    def _clip(self, most: float) -> None:
        """As torch's clip_grad_norm_ does."""
        gradients = [self.flat.gradients_Q, self.flat.gradients_rest]
        norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
        factor = (most / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)

    def _update(self, span: tuple[int, int], numbers: Tensor) -> None:
        flat = self.flat
        start, end = span
        gradients = (
            flat.gradients_Q[start:end]
            if end <= flat.products_end
            else flat.gradients_rest[start - flat.products_end : end - flat.products_end]
        )
        copy = flat.copy_P[start:end] if end <= flat.copied else None
        state = (flat.weights_P[start:end], flat.first_P[start:end], flat.second_P[start:end], gradients, copy)
        if self._fused is not None:
            from tlm.modeling import kernels

            decay = numbers[prepacked.DECAY], numbers[prepacked.STEP_SIZE], numbers[prepacked.VARIANCE_SCALE]
            kernels.adamw(*state, decay, prepacked.BETAS, EPSILON)
        elif self.device.type == "cuda" and not self.engine.compiled:
            count, rate = numbers[prepacked.COUNT], numbers[prepacked.RATE]
            fused_adamw(*state, count, rate, self.config.weight_decay)
        else:
            scalars = [numbers[i] for i in (prepacked.DECAY, prepacked.STEP_SIZE, prepacked.VARIANCE_SCALE)]
            self._adamw(*state, *scalars)

    # --- evaluation ---

    @torch.no_grad()
    def evaluate(self, inputs: Inputs) -> None:
        """How many of the labelled sequences the classifier has right, written to `right_E` at the header's step."""
        form, flat = self.form.without_dropout(), self.flat
        norm, norm_bias = self.embedding.weights
        x = flat.wide(flat.words)[inputs.ids_R] + flat.wide(self.positions)[inputs.positions_R]
        x = embedded(x + flat.wide(self.types)[0], norm, norm_bias, form)
        for segment in self.layers[:-1]:
            x = layer(x, LayerWeights(*segment.weights), inputs.spans, form)
        x = last_layer(x, LayerWeights(*self.layers[-1].weights), inputs.spans, inputs.rows_N, form)
        logits_SL = class_logits(x, ClassifierHead(*self.head.weights), form)
        right = (logits_SL.argmax(1) == inputs.labels_N).sum()
        self.right_E.index_copy_(0, inputs.header[prepacked.STEP].long().view(1), right.view(1))

    # --- capture and replay ---

    def capture(self, size: Size, example: Vector, *, evaluates: bool = False) -> None:
        """Make a size of batch known; on a GPU, with an example that changes no weight (`Scalars()`), capture its step."""
        static = torch.from_numpy(example).to(self.device)
        function = self.evaluate if evaluates else self.step
        if not self.engine.captured:
            self.graphs[size] = (lambda: function(inputs_of(static, size)), static)
            return
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            for _ in range(WARM_UPS):
                function(inputs_of(static, size))
        torch.cuda.current_stream().wait_stream(self._side)
        graph = torch.cuda.CUDAGraph()
        pool = next((g.pool() for g, _ in self.graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool, stream=self._side):
            function(inputs_of(static, size))
        self.graphs[size] = (graph, static)

    def launch(self, size: Size, vector: Tensor) -> None:
        """Run the step of a vector, which is on the device."""
        run, static = self.graphs[size]
        static.copy_(vector, non_blocking=True)
        run.replay() if self.engine.captured else run()


def _where(inputs: Inputs) -> Any:
    from tlm.training.fused import Where

    step_1 = inputs.header[prepacked.STEP : prepacked.STEP + 1]
    own = (inputs.ids_R, inputs.positions_R, inputs.rows_N, inputs.labels_N, inputs.spans)
    return Where(*own, inputs.numbers[prepacked.LOSS_SCALE], step_1)


def _is_norm(block: Block) -> bool:
    return "LayerNorm" in block.names[0]


def _norm_blocks(name: str, size: int) -> list[Block]:
    return [Block((f"{name}.weight",), (size,)), Block((f"{name}.bias",), (size,))]


def _linear_blocks(name: str, inputs: int, outputs: int) -> list[Block]:
    return [Block((f"{name}.weight",), (outputs, inputs)), Block((f"{name}.bias",), (outputs,))]


def _layer_blocks(name: str, size: int, wide: int) -> list[Block]:
    """In the order of `LayerWeights`."""
    attention = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    return [
        Block(tuple(f"{part}.weight" for part in attention), (3 * size, size)),
        Block(tuple(f"{part}.bias" for part in attention), (3 * size,)),
        *_linear_blocks(f"{name}.attention.output.dense", size, size),
        *_linear_blocks(f"{name}.intermediate.dense", size, wide),
        *_linear_blocks(f"{name}.output.dense", wide, size),
        *_norm_blocks(f"{name}.attention.output.LayerNorm", size),
        *_norm_blocks(f"{name}.output.LayerNorm", size),
    ]


def _masked_blocks(size: int, vocabulary: int) -> list[Block]:
    """In the order of `MaskedHead`, without the words."""
    return [
        *_linear_blocks("cls.predictions.transform.dense", size, size),
        Block(("cls.predictions.bias",), (vocabulary,)),
        *_norm_blocks("cls.predictions.transform.LayerNorm", size),
    ]


def _class_blocks(size: int, labels: int) -> list[Block]:
    """In the order of `ClassifierHead`."""
    return [*_linear_blocks("bert.pooler.dense", size, size), *_linear_blocks("classifier", size, labels)]
