"""Stage `exit_scores`: how likely a language model finds each option of a benchmark if tokens leave at its exits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import FiniteFloat

from tlm.artifacts.step import Label
from tlm.errors import UserError
from tlm.stages.base import Stage
from tlm.stages.evaluating import Evaluating, Models
from tlm.stages.exit_sweep import SWEEP, ExitSweep
from tlm.stages.likelihood import Likelihood
from tlm.stages.option_scores import OptionScores, score_options
from tlm.stages.pretrain import Pretrain, in_arm
from tlm.study.architecture import Architecture
from tlm.study.early_exit import EarlyExit
from tlm.study.likelihood import Likelihood as LikelihoodConfig

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job


class ExitScores(OptionScores, Evaluating, name="exit_scores", version="1", trains=True):
    """scores.parquet as `option_scores` makes it, by a model whose tokens leave at its exits (`tlm.modeling.exits`)."""

    asked_by = EarlyExit

    threshold: float | None = None
    sweep: ExitSweep | None = None
    """Which the threshold is found in, if none is given."""
    layers: float | None = None
    """The share of layers that held-out text may use then."""

    told = dict.fromkeys(("threshold", "layers", "flops_share"), FiniteFloat)

    @classmethod
    def wanted(cls, asked: Any, models: Models) -> Iterator[Stage]:
        """What `likelihood` makes of these scores, for each benchmark and each model with exits."""
        having = [model.architecture for model in models.pretrained if _exits(model.architecture)]
        benchmarks = [each for each in models.study.evaluations if isinstance(each, LikelihoodConfig)]
        if not having:
            raise UserError("evaluations: early_exit: no model has exits.", "Give one options: {exits: [1]}.")
        if not benchmarks:
            raise UserError(
                "evaluations: early_exit: no benchmark is asked by likelihood.",
                "Add one, {kind: likelihood, data: blimp} for example.",
            )
        for architecture in having:
            _can_be_reached(asked, architecture)
        for benchmark in benchmarks:
            for plain in Likelihood.wanted(benchmark, models):
                if _exits(plain.scores.model.architecture):
                    yield replace(plain, scores=_scores(asked, plain.scores))

    @property
    def title(self) -> str:
        """What tables call it."""
        return EarlyExit(threshold=self.threshold, layers=self.layers).title

    @property
    def slug(self) -> str:
        return f"{super().slug}-{self.title}"

    @property
    def labels(self) -> dict[str, Label]:
        own = super().labels
        return {**own, **in_arm(", ".join(str(part) for part in (own.get("arm"), self.title) if part))}

    def run(self, job: Job) -> Facts:
        from tlm.evaluation.early_exit import highest_threshold
        from tlm.modeling.exits import EarlyExit as Exiting

        threshold = self.threshold
        if threshold is None:
            assert self.layers is not None
            threshold = highest_threshold(job.frame("sweep", SWEEP), self.layers)
        model, config = job.language_model()
        early = Exiting(model, threshold)
        facts = score_options(job, early, int(config["max_length"]))
        share = early.layers / model.config.num_hidden_layers
        return {**facts, "threshold": threshold, "layers": share, "flops_share": early.flops_share}


def _scores(asked: EarlyExit, plain: OptionScores) -> ExitScores:
    assert isinstance(plain.model, Pretrain)  # no compressed one is asked to leave early
    model, tokenizer, benchmark = plain.model, plain.tokenizer, plain.benchmark
    if asked.threshold is not None:
        return ExitScores(model=model, tokenizer=tokenizer, benchmark=benchmark, threshold=asked.threshold)
    sweep = ExitSweep(model=model, tokenizer=tokenizer, corpus=model.corpus)
    return ExitScores(model=model, tokenizer=tokenizer, benchmark=benchmark, sweep=sweep, layers=asked.layers)


def _exits(architecture: Architecture) -> tuple[int, ...]:
    return tuple(getattr(architecture.options, "exits", ()))


def _can_be_reached(asked: EarlyExit, architecture: Architecture) -> None:
    least = _exits(architecture)[0] / architecture.num_hidden_layers
    if asked.layers is not None and asked.layers < least:
        raise UserError(
            f"evaluations: early_exit: layers={asked.layers:g}, but the first exit of {architecture.name} is after "
            f"{least:g} of its layers.",
            "Give it an earlier exit, or ask for more layers.",
        )
