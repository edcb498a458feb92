"""Stage `latency`: how long a fine-tuned model takes to answer, on the machine that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.stages.base import Stage
from tlm.stages.task import Task
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

BATCH_SIZES = (1, 64)
"""Items that are answered at once."""
REPEATS = 50
"""Times that a model's latency is measured."""
THREADS = 1


class Latency(Stage, name="latency", version="1", trains=True):
    """latency.parquet: milliseconds of each call (batch_size, call, milliseconds), from token ids to logits in memory.

    Test items are predicted as `tlm predict` does, on one thread, in the task's order. Facts have p50_ms_N and p95_ms_N for
    each batch size N. Whatever else the machine does at the same time is measured with it.
    """

    model: Stage
    """Of a classifier: `finetune`, or what makes a model of such."""
    task: Task
    tokens: Tokens
    tokenizer: Tokenizer
    batch_sizes: tuple[int, ...]
    repeats: int

    requires = ("torch", "transformers")
    reads_weights = True
    alone = True
    outputs = {"latency.parquet": None}

    @property
    def slug(self) -> str:
        return "-".join(str(part) for part in self.labels.values())

    @property
    def labels(self) -> dict[str, Label]:
        own = self.model.labels
        return {"task": self.task.task} | {name: own[name] for name in ("arch", "arm") if name in own}

    def run(self, job: Job) -> Facts:
        import os

        import numpy as np
        import pandas as pd

        from tlm.data.ragged import Rows
        from tlm.evaluation.latency import measure_latency
        from tlm.inference.finetuned import FinetunedModel
        from tlm.machine.precision import processor
        from tlm.machine.threads import limited_threads
        from tlm.modeling.cost import classifier_flops, count_parameters
        from tlm.modeling.packing import with_specials

        finetuned = FinetunedModel.load(job.inputs["model"], job.runtime.torch_device())
        items = job.frame("task", "items.parquet")
        tokens = job.sequences("tokens").take(items.loc[items["part"] == "test", "row"].to_numpy())
        vocabulary = job.vocabulary()

        def answer(places: Rows) -> object:
            return finetuned.logits(tokens, places, vocabulary, batch_size=len(places))

        facts: Facts = {}
        calls = []
        with limited_threads(THREADS):
            for done, size in enumerate(self.batch_sizes):
                job.progress(done, len(self.batch_sizes))
                found = measure_latency(answer, len(tokens), size, self.repeats)
                facts |= {f"p50_ms_{size}": found.p50, f"p95_ms_{size}": found.p95}
                times = {"call": range(len(found.milliseconds)), "milliseconds": found.milliseconds}
                calls.append(pd.DataFrame({"batch_size": size, **times}))
        job.write(pd.concat(calls, ignore_index=True), "latency.parquet")
        length = round(float(np.mean(with_specials(tokens.lengths, finetuned.max_length))))
        return {
            **facts,
            "model_key": job.inputs["model"].record.key,
            "threads": THREADS,
            "device": finetuned.device,
            "precision": finetuned.precision,
            "processor": processor(),
            "cores": os.cpu_count() or 1,
            "parameters": count_parameters(finetuned.model),
            "mean_length": length,
            "flops": classifier_flops(finetuned.architecture, length, finetuned.model.num_labels),
        }
