"""Stage `benchmark`: the items of a benchmark, their options as text and as token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tlm.artifacts.step import Label
from tlm.errors import UserError
from tlm.stages.base import Aside, Count, Flat, Stage
from tlm.stages.tokenizer import Tokenizer
from tlm.study.likelihood import Benchmark as BenchmarkConfig
from tlm.study.likelihood import TooLong

if TYPE_CHECKING:
    from tlm.artifacts.record import Record
    from tlm.stages.job import Facts, Job

PARADIGMS = 67
"""Of BLiMP."""


class Benchmark(Stage, name="benchmark", version="1"):
    """items.parquet (item_id, item_group, phenomenon, gold, options) and options.parquet (prefix, option, item, bytes,
    tokens, start, cut), in the order of the benchmark; the ids of each prefix with its option in tokens.*.npy.

    `item` is a row of items.parquet, `start` where in the ids the option begins, `tokens` how many it has: 0 if it does not
    fit. `bytes` are those of the option in UTF-8, white space around it not counted.
    """

    content: Flat[dict[str, Any]]
    """What makes the benchmark's content (`tlm.data.benchmarks.identity`)."""
    benchmark: Aside[BenchmarkConfig]
    title: Aside[str]
    tokenizer: Tokenizer
    max_length: int
    too_long: TooLong
    limit: int | None

    outputs = {
        "items.parquet": None,
        "options.parquet": None,
        "tokens.ids.npy": None,
        "tokens.offsets.npy": None,
    }
    told = {
        **dict.fromkeys(("items", "groups", "not_scored", "cut"), Count),
        "average": Literal["items", "groups"],
    }

    @property
    def slug(self) -> str:
        return self.title

    @property
    def labels(self) -> dict[str, Label]:
        return {"task": self.title}

    def run(self, job: Job) -> Facts:
        import pandas as pd

        from tlm.data import benchmarks
        from tlm.data.benchmarks.tokens import tokenise

        data_root = job.runtime.data_root
        if benchmarks.identity(self.benchmark, data_root) != self.content:
            raise UserError(f"benchmark {self.title} changed between planning and reading it.", "Run the study again.")
        items = benchmarks.read(self.benchmark, data_root, self.limit)
        found = tokenise(items, job.tokenizer(), self.max_length, self.too_long)
        found.texts.save(job.out, "tokens")
        rows = [(i.item_id, i.group, i.phenomenon, i.gold, len(i.options)) for i in items]
        table = pd.DataFrame(rows, columns=["item_id", "item_group", "phenomenon", "gold", "options"])
        job.write(table.astype({"item_group": "str", "phenomenon": "str"}), "items.parquet")
        texts = [pair for item in items for pair in zip(item.prefixes, item.options, strict=True)]
        options = pd.DataFrame(texts, columns=["prefix", "option"]).assign(
            item=found.item_of,
            bytes=[len(option.strip().encode("utf-8")) for _, option in texts],
            tokens=found.sizes,
            start=found.starts,
            cut=found.cut,
        )
        job.write(options, "options.parquet")
        return {
            "items": len(items),
            "groups": int(table["item_group"].nunique()),
            "options": len(options),
            "tokens": int(found.sizes.sum()),
            "not_scored": found.items_with(~found.fits),
            "cut": found.items_with(found.cut),
            "average": self.benchmark.average,
        }

    @classmethod
    def notes(cls, record: Record) -> list[str]:
        facts, max_length = record.facts, record.config["max_length"]
        said = {
            "not_scored": f"do not fit max_length={max_length} and are not scored",
            "cut": f"do not fit max_length={max_length}: the beginning of their prefix is cut",
        }
        found = [f"{facts[name]:,} of {facts['items']:,} items {what}" for name, what in said.items() if facts[name]]
        if record.config["kind"] == "blimp" and facts["groups"] != PARADIGMS:
            found.append(f"{facts['groups']} of BLiMP's {PARADIGMS} paradigms are there")
        return found
