"""Stage `likelihood`: how often a model gives the right option of a benchmark's items the highest probability."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from pydantic import FiniteFloat

from tlm.artifacts.step import Label
from tlm.artifacts.tables import Table
from tlm.errors import UserError
from tlm.stages.benchmark import Benchmark
from tlm.stages.contained import Contained
from tlm.stages.evaluating import Evaluating, Models
from tlm.stages.ngram_scores import ORDER, NgramScores
from tlm.stages.option_scores import SCORES, OptionScores
from tlm.stages.untrained_scores import UntrainedScores
from tlm.study.families import FAMILIES
from tlm.study.likelihood import Likelihood as LikelihoodConfig
from tlm.study.likelihood import Normalization

if TYPE_CHECKING:
    from tlm.artifacts.record import Record
    from tlm.stages.job import Facts, Job

NULLS = ("untrained", "fewest_tokens", "fewest_bytes", "ngram")
"""What a model's score stands beside: what these score on the same items, without having learnt or without looking."""
ITEMS = Table(
    "likelihood_items",
    {
        "item_id": "varchar",
        "item_group": "varchar",
        "phenomenon": "varchar",
        "contained": "boolean",
        "model": "double",
        **dict.fromkeys(NULLS, "double"),
    },
)
_COUNTS = ("items", "not_scored", "cut", "ties", "contained")
_SCORES = ("score", "se", "item_se", "chance", *NULLS, *(f"over_{name}_se" for name in NULLS), "score_not_contained")
SUMMARY = Table(
    "likelihood", {**dict.fromkeys(_COUNTS, "bigint"), **dict.fromkeys(_SCORES, "double"), "average": "varchar"}
)


class Likelihood(Evaluating, name="likelihood", version="1"):
    """items.parquet: what each item earns, 1 if its right option is the likeliest, 1 / k if k options are, else 0, and what
    it earns under each null (empty: not scored). summary.parquet: one row, the means with their standard errors.
    """

    asked_by = LikelihoodConfig
    outputs = {"items.parquet": ITEMS, "summary.parquet": SUMMARY}
    told = {
        **dict.fromkeys(("score", *NULLS), FiniteFloat),
        **dict.fromkeys((f"over_{name}_se" for name in NULLS), FiniteFloat | None),
    }

    benchmark: Benchmark
    scores: OptionScores
    untrained: UntrainedScores
    ngram: NgramScores
    contained: Contained
    normalization: Normalization

    @classmethod
    def wanted(cls, asked: Any, models: Models) -> Iterator[Self]:
        if not models.pretrained:
            raise UserError(
                "evaluations: likelihood scores pre-trained models, and there is none.", "Add a Ws above 0."
            )
        benchmark = Benchmark(
            content=models.identify(asked.data),
            benchmark=asked.data,
            title=asked.title,
            tokenizer=models.tokenizer,
            max_length=models.study.max_length,
            too_long=asked.too_long,
            limit=asked.limit,
        )
        for model in models.pretrained:
            objective = model.pretrain.objective_for(FAMILIES[model.architecture.kind])
            if not objective.trains_head:
                raise UserError(
                    "evaluations: likelihood asks a model's language modelling head, which pretrain.objective: "
                    f"{objective.kind} does not train.",
                    "Leave one of the two out.",
                )
            yield cls(
                benchmark=benchmark,
                scores=OptionScores(model=model, tokenizer=models.tokenizer, benchmark=benchmark),
                untrained=UntrainedScores.before(model, benchmark),
                ngram=NgramScores(corpus=model.corpus, tokenizer=models.tokenizer, benchmark=benchmark, order=ORDER),
                contained=Contained(corpus=model.corpus, benchmark=benchmark, ngram=models.study.tokenizer.ngram),
                normalization=asked.normalization,
            )

    @property
    def slug(self) -> str:
        per_byte = "" if self.normalization == "sum" else f"-{self.normalization}"
        return f"{self.scores.slug}{per_byte}"

    @property
    def labels(self) -> dict[str, Label]:
        return {**self.scores.labels, "init": "pretrained"}

    def run(self, job: Job) -> Facts:
        import numpy as np
        import pandas as pd

        from tlm.evaluation.outcomes import credits, mean_score

        items = job.frame("benchmark", "items.parquet")
        options = job.frame("benchmark", "options.parquet", ["item", "bytes", "tokens"])
        facts = job.inputs["benchmark"].record.facts
        fits = options["tokens"].to_numpy() > 0
        over = options["bytes"].to_numpy() if self.normalization == "per_byte" else 1
        scores = {
            "model": job.frame("scores", SCORES)["log_p"].to_numpy() / over,
            "untrained": job.frame("untrained", SCORES)["log_p"].to_numpy() / over,
            "fewest_tokens": np.where(fits, -options["tokens"].to_numpy(), np.nan),
            "fewest_bytes": np.where(fits, -options["bytes"].to_numpy(), np.nan),
            "ngram": job.frame("ngram", SCORES)["log_p"].to_numpy() / over,
        }
        gold, of = items["gold"].to_numpy(), options["item"].to_numpy()
        earned = {name: credits(values, of, gold) for name, values in scores.items()}
        groups = items["item_group"].tolist() if facts["average"] == "groups" else None
        contained = job.frame("contained", "contained.parquet", ["hits"])["hits"].to_numpy() > 0
        table = items[["item_id", "item_group", "phenomenon"]].assign(contained=contained, **earned)
        job.write(table, "items.parquet")
        own = earned["model"]
        score = mean_score(own, groups)
        chance = mean_score(np.where(np.isnan(own), np.nan, 1 / items["options"]), groups)
        summary: dict[str, Any] = {
            "items": len(items),
            "not_scored": int(np.isnan(own).sum()),
            "cut": facts["cut"],
            "ties": int(((own > 0) & (own < 1)).sum()),
            "contained": int((contained & ~np.isnan(own)).sum()),
            "score": score.value,
            "se": score.se,
            "item_se": score.item_se,
            "chance": chance.value,
            **{name: mean_score(earned[name], groups).value for name in NULLS},
            **{f"over_{name}_se": mean_score(own - earned[name], groups).se for name in NULLS},
            "score_not_contained": mean_score(np.where(contained, np.nan, own), groups).value,
            "average": facts["average"],
        }
        job.write(pd.DataFrame([summary]), "summary.parquet")
        return {name: None if value != value else value for name, value in summary.items()}

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        facts = record.facts
        best = max(NULLS, key=lambda name: facts[name])
        margin, se = facts["score"] - facts[best], facts[f"over_{best}_se"]
        if se is not None and margin < 2 * se:
            return [f"not 2 standard errors above what {best} scores ({100 * facts[best]:.1f} %)"]
        return []
