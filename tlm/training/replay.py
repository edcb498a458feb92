"""Pre-training and fine-tuning with captured steps: what `pretrain` and `finetune` do, by `tlm.training.captured`.

The same initialisation, items, masks, rates and evaluations as theirs. What differs is which elements dropout drops, the
order of sums, and that losses are looked at only when something is evaluated.

Shapes: B items, N items of a split, C labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tlm.data.ragged import Ragged, Rows
from tlm.data.tokenizer import Vocabulary
from tlm.machine.precision import native_precision
from tlm.modeling.cost import finetuning_run_flops, pretraining_run_flops
from tlm.modeling.families.base import family_of
from tlm.modeling.interchange import load_encoder_into_classifier
from tlm.modeling.packing import with_specials
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig, Optimisation, PretrainConfig
from tlm.training.batching import shortened
from tlm.training.captured import Engine, Stepper
from tlm.training.finetune import Finetuned, mean, predictions
from tlm.training.hooks import LOG_EVERY
from tlm.training.optimisation import Curve, NonFiniteLoss, learning_rate
from tlm.training.prepacked import (
    STEP,
    Batch,
    Epoch,
    Run,
    Scalars,
    exact_size,
    labelled_batch,
    plan_sizes,
    prepare_epoch,
    rows_of_steps,
    vector,
)
from tlm.training.pretrain import EVALUATIONS, Pretrained, heldout_metrics, tokens_seen

Prepared = Callable[[Run], Iterable[Epoch]]
"""Where a run's epochs come from, in order: `in_turn`, or something that prepares several at once."""

T = TypeVar("T")

PREDICTED_AT_ONCE = 512
"""Items in a batch of the last evaluation: no step waits for it, and few launches are needed."""


class OutOfTime(RuntimeError):
    """A run would not end in time. It has no result."""


def in_turn(run: Run) -> Iterator[Epoch]:
    """Each epoch when it is asked for."""
    return (prepare_epoch(run, epoch) for epoch in range(run.epochs))


def plan_run(
    sequences: Ragged,
    vocabulary: Vocabulary,
    config: Optimisation,
    *,
    max_length: int,
    seed: int,
    steps: int,
    labels: Rows | None = None,
    multiple: int = 128,
) -> Run:
    """A run and the sizes that its batches need."""
    probability = config.mlm_probability if isinstance(config, PretrainConfig) else None
    rows_T, items_T = rows_of_steps(sequences, config, seed, max_length, steps)
    sizes = plan_sizes(rows_T, items_T, max_length=max_length, mlm_probability=probability, multiple=multiple)
    return Run(sequences, vocabulary, config, max_length, seed, steps, sizes, labels, probability or 0.0)


def capture_run(stepper: Stepper, run: Run) -> None:
    """Capture a step for every size of the run, with batches of nothing but fillers: no weight changes."""
    for size in run.sizes:
        if size not in stepper.graphs:
            stepper.capture(size, vector(Batch.empty(), size, Scalars(), run.vocabulary.pad))


def launches(
    stepper: Stepper,
    run: Run,
    epochs: Iterable[Epoch],
    *,
    after_step: Callable[[int, int], None],
    moments: Collection[int],
    deadline: float = math.inf,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> Iterator[None]:
    """Launch every step of a run, one each time.

    Args:
        after_step: called as (step, epoch), both counted as `train` does, after those 1-based steps that are `moments`.
        after_epoch: called with the 0-based epoch once its last step is launched, not done.
        deadline: of `time.monotonic`.

    Raises:
        OutOfTime: as soon as the run's rate shows that it cannot end in time.
    """
    step, began, marks = 0, time.monotonic(), []
    for epoch, vectors in uploaded(epochs, stepper.device):
        start = 0
        for index in epoch.sizes_T:
            size = run.sizes[index]
            stepper.launch(size, vectors[start : start + size.length])
            start, step = start + size.length, step + 1
            if step in moments:
                after_step(step, epoch.number)
            yield
        after_epoch(epoch.number)
        if stepper.device.type == "cuda":
            marks.append(torch.cuda.current_stream().record_event())
            if epoch.number:
                marks[epoch.number - 1].synchronize()
        # This epoch's last steps may be launched and not done: the least that the run can take is what counts.
        expected = (time.monotonic() - began) / (epoch.number + 1) * run.epochs
        if began + expected > deadline:
            raise OutOfTime(f"{run.steps} steps would take {expected:.0f} s: {deadline - began:.0f} s are left.")


def side_by_side(runs: Sequence[Generator[None, None, T]], device: str) -> list[T]:
    """What several runs return, step by step in turn, each on a stream of its own: they fill a GPU better than one."""
    if device != "cuda" or len(runs) == 1:
        return [finished(run) for run in runs]
    streams: list[Any] = [torch.cuda.Stream() for _ in runs]  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    results: dict[int, T] = {}
    while len(results) < len(runs):
        for number, (run, stream) in enumerate(zip(runs, streams, strict=True)):
            if number not in results:
                with torch.cuda.stream(stream):
                    try:
                        next(run)
                    except StopIteration as end:
                        results[number] = end.value
    torch.cuda.synchronize()
    return [results[number] for number in range(len(runs))]


def finished(run: Generator[None, None, T]) -> T:
    """What a run returns."""
    while True:
        try:
            next(run)
        except StopIteration as end:
            value: T = end.value
            return value


def uploaded(epochs: Iterable[Epoch], device: torch.device) -> Iterator[tuple[Epoch, Tensor]]:
    """Each epoch with its vectors on the device, the next one already under way."""
    if device.type != "cuda":
        yield from ((epoch, torch.from_numpy(epoch.vectors)) for epoch in epochs)
        return
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    ahead: tuple[Epoch, Tensor] | None = None
    for epoch in epochs:
        with torch.cuda.stream(stream):
            vectors = torch.from_numpy(epoch.vectors).pin_memory().to(device, non_blocking=True)
        arrived = stream.record_event()
        if ahead is not None:
            yield ahead
        torch.cuda.current_stream().wait_event(arrived)
        vectors.record_stream(torch.cuda.current_stream())
        ahead = epoch, vectors
    if ahead is not None:
        yield ahead


def record_losses(stepper: Stepper, run: Run, curve: Curve) -> None:
    """Read every loss of a run into the curve, at the steps that `train` records. NonFiniteLoss if one is not finite."""
    losses = stepper.losses_T[: run.steps].tolist()
    bad = next((step for step, loss in enumerate(losses) if not math.isfinite(loss)), None)
    per_epoch = run.order.steps_per_epoch
    if bad is not None:
        rate = learning_rate(run.config, bad, run.steps, per_epoch)
        raise NonFiniteLoss(
            f"training diverged: loss is {losses[bad]} at step {bad + 1} of {run.steps}, learning rate {rate:.3g}."
        )
    if not bool(stepper.flat.weights_P.isfinite().all()):
        raise NonFiniteLoss(f"training diverged: a weight is not finite after step {run.steps} of {run.steps}.")
    for step in range(run.steps):
        if step == 0 or (step + 1) % LOG_EVERY == 0 or step + 1 == run.steps:
            rate = learning_rate(run.config, step, run.steps, per_epoch)
            curve.add(step + 1, step // per_epoch, train_loss=losses[step], learning_rate=rate)


# --- pre-training ---


def pretraining_steps(sequences: Ragged, config: PretrainConfig) -> int:
    """As `pretrain` counts them."""
    per_epoch = math.ceil(len(sequences) / config.batch_size)
    return shortened(config.steps if config.steps is not None else (config.epochs or 0) * per_epoch, config)


def language_stepper(
    vocabulary: Vocabulary,
    architecture: Architecture,
    config: PretrainConfig,
    engine: Engine,
    *,
    max_length: int,
    seed: int,
    steps: int,
    device: str,
) -> Stepper:
    """A stepper of a language model with a seeded initialisation, `pretrain`'s."""
    torch.manual_seed(seed)
    family = family_of(architecture)
    model: Any = family.language_model(family.configure(architecture, vocabulary, max_length))
    model.to(device)
    return Stepper(model, config, _precision(config, device), engine, max_length, steps)


def pretrain(
    stepper: Stepper,
    run: Run,
    heldout: Ragged,
    epochs: Iterable[Epoch],
    *,
    deadline: float = math.inf,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> Pretrained:
    """Train a `language_stepper` through a run. Raises NonFiniteLoss, OutOfTime."""
    config, steps, model = run.config, run.steps, stepper.model
    assert isinstance(config, PretrainConfig)
    objective: Any = config.objective_for(family_of(model.config))
    curve = Curve()
    capture_run(stepper, run)
    model.train()
    stepper.reseed(run.seed)

    def evaluate(step: int, epoch: int) -> None:
        found = heldout_metrics(
            objective,
            model,
            model,
            heldout,
            run.vocabulary,
            config,
            max_length=run.max_length,
            device=stepper.device.type,
        )
        curve.add(step, epoch, **found)
        model.train()

    moments = {round(steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)}
    for _ in launches(
        stepper, run, epochs, after_step=evaluate, moments=moments, deadline=deadline, after_epoch=after_epoch
    ):
        pass
    record_losses(stepper, run, curve)
    tokens, texts = tokens_seen(run.sequences.lengths, run.order, steps, run.max_length), len(run.sequences)
    facts: dict[str, float | int] = {
        "heldout_loss": curve.last("heldout_loss"),
        "heldout_accuracy": curve.last("heldout_accuracy"),
        "steps": steps,
        "tokens": tokens,
        "flops": pretraining_run_flops(
            model.config, config, len(run.vocabulary), steps=steps, texts=texts, tokens=tokens
        ),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return Pretrained(stepper.model, curve, facts)


# --- fine-tuning ---


class Finetuner:
    """Fine-tuning of one architecture on one task, as often as wanted: its steps are captured once.

    Args: those of `tlm.training.finetune.finetune`.
    """

    def __init__(
        self,
        tokens: Ragged,
        items: pd.DataFrame,
        vocabulary: Vocabulary,
        architecture: Architecture,
        config: FinetuneConfig,
        engine: Engine,
        *,
        max_length: int,
        device: str,
        multiple: int = 128,
    ) -> None:
        self.tokens, self.items, self.vocabulary = tokens, items, vocabulary
        self.config, self.max_length, self.device, self.multiple = config, max_length, device, multiple
        train = items[items["part"] == "train"]
        self.train_tokens = tokens.take(train["row"].to_numpy())
        self.train_labels = train["label"].to_numpy().astype(np.int64)
        self.steps = shortened(config.epochs * math.ceil(len(train) / config.batch_size), config)
        family, num_labels = family_of(architecture), int(items["label"].max()) + 1
        self._new: Callable[[], Any] = lambda: family.classifier(
            family.configure(architecture, vocabulary, max_length, num_labels)
        )
        self.stepper = Stepper(
            self._new().to(device), config, _precision(config, device), engine, max_length, self.steps
        )
        self._dev = self._evaluation("dev")

    def _evaluation(self, part: str) -> tuple[Any, Tensor, int]:
        """The size, the vector and the number of items of a part, captured."""
        held = self.items[self.items["part"] == part]
        own, labels = self.tokens.take(held["row"].to_numpy()), held["label"].to_numpy().astype(np.int64)
        batch, _ = labelled_batch(own, labels, np.arange(len(held)), self.vocabulary, self.max_length)
        size = exact_size(batch)
        example = vector(batch, size, Scalars(), self.vocabulary.pad)
        self.stepper.capture(size, example, evaluates=True)
        return size, torch.from_numpy(example).to(self.stepper.device), len(held)

    def run(self, seed: int) -> Run:
        """The run of a seed. Sizes do not differ much between seeds, and those that do not are captured once."""
        return plan_run(
            self.train_tokens,
            self.vocabulary,
            self.config,
            max_length=self.max_length,
            seed=seed,
            steps=self.steps,
            labels=self.train_labels,
            multiple=self.multiple,
        )

    def finetune(
        self,
        run: Run,
        epochs: Iterable[Epoch],
        sink: Callable[[pd.DataFrame], None],
        *,
        pretrained: Path | None = None,
        deadline: float = math.inf,
    ) -> Generator[None, None, Finetuned]:
        """Train from a seeded initialisation, or from a pre-trained model's folder, a step each time.

        One such run after another: there is one model. Raises NonFiniteLoss, OutOfTime.
        """
        self._initialise(run.seed, pretrained)
        stepper, (size, dev, dev_items) = self.stepper, self._dev
        capture_run(stepper, run)
        model: Any = stepper.model.train()
        stepper.reseed(run.seed)
        ends = min(run.epochs, math.ceil(run.steps / run.order.steps_per_epoch))

        def evaluate(epoch: int) -> None:
            dev[STEP].fill_(epoch)
            stepper.launch(size, dev)

        yield from launches(
            stepper,
            run,
            epochs,
            after_step=lambda step, epoch: None,
            moments=(),
            deadline=deadline,
            after_epoch=evaluate,
        )
        curve = Curve()
        record_losses(stepper, run, curve)
        for epoch, right in enumerate(stepper.right_E[:ends].tolist()):
            step = min((epoch + 1) * run.order.steps_per_epoch, run.steps)
            curve.add(step, epoch, dev_accuracy=right / dev_items if dev_items else math.nan)
        hits = self._predict(model, sink)
        facts: dict[str, float | int] = {
            "test_accuracy": mean(hits["test"]),
            "dev_accuracy": mean(hits["dev"]),
            "test_items": len(hits["test"]),
            "steps": run.steps,
            "flops": finetuning_run_flops(
                model.config,
                self.config,
                model.num_labels,
                steps=run.steps,
                items=len(self.train_labels),
                mean_length=float(with_specials(self.train_tokens.lengths, self.max_length).mean()),
            ),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        return Finetuned(model, curve, facts)

    def _initialise(self, seed: int, pretrained: Path | None) -> None:
        torch.manual_seed(seed)
        fresh = self._new()
        if pretrained is not None:
            load_encoder_into_classifier(fresh, pretrained)
        with torch.no_grad():
            for mine, given in zip(self.stepper.model.parameters(), fresh.parameters(), strict=True):
                mine.copy_(given)
        self.stepper.flat.restart()

    def _predict(self, model: Any, sink: Callable[[pd.DataFrame], None]) -> dict[str, list[bool]]:
        """Give `sink` the predictions of dev and test; which of them are right, by part."""
        held = self.items[self.items["part"] != "train"]
        hits: dict[str, list[bool]] = {"dev": [], "test": []}
        found = predictions(
            model,
            self.tokens,
            held["row"].to_numpy(),
            self.vocabulary,
            self.max_length,
            self.config.precision,
            self.device,
            PREDICTED_AT_ONCE,
        )
        for batch, logits_NC in found:
            frame = held.iloc[batch].assign(logits=list(logits_NC))
            for part, right in zip(frame["part"], logits_NC.argmax(axis=1) == frame["label"], strict=True):
                hits[part].append(bool(right))
            sink(frame)
        return hits


def _precision(config: Optimisation, device: str) -> Any:
    return native_precision(torch.device(device).type) if config.precision == "auto" else config.precision
