"""The stage that measures how long a fine-tuned model takes to answer, on the machine that runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch

from tlm.data.ragged import Rows
from tlm.evaluation.latency import measure_latency
from tlm.machine.precision import processor
from tlm.modeling.cost import count_parameters, forward_flops
from tlm.modeling.interchange import load_strict
from tlm.stages.job import Facts, Job
from tlm.stages.models import CONFIG_AND_WEIGHTS
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig
from tlm.training.batching import with_specials
from tlm.training.finetune import predict
from tlm.training.objectives import KINDS

THREADS = 1


def latency(job: Job) -> Facts:
    """latency.parquet: milliseconds of each call (batch_size, call, milliseconds), from token ids to logits in memory.

    Test items are predicted as `tlm predict` does, on one thread, in the task's order. Facts have p50_ms_N and p95_ms_N for
    each batch size N. Whatever else the machine does at the same time is measured with it.
    """
    config: dict[str, Any] = dict(job.config)
    finetuned = job.inputs["model"]
    made: dict[str, Any] = finetuned.record.config
    shape = Architecture.model_validate({"name": str(job.step.labels["arch"]), **made["architecture"]})
    precision = FinetuneConfig.model_validate(made["finetune"]).precision
    device, max_length = job.runtime.torch_device(), int(made["max_length"])
    items = job.frame("task", "items.parquet")
    tokens = job.sequences("tokens").take(items.loc[items["part"] == "test", "row"].to_numpy())
    vocabulary = job.vocabulary()
    model = load_strict(KINDS[shape.kind].classifier, finetuned.folder(CONFIG_AND_WEIGHTS)).to(device)

    def answer(places: Rows) -> object:
        return predict(model, tokens, places, vocabulary, max_length, precision, device, batch_size=len(places))

    facts: Facts = {}
    calls = []
    with _threads(THREADS):
        for done, size in enumerate(config["batch_sizes"]):
            job.progress(done, len(config["batch_sizes"]))
            found = measure_latency(answer, len(tokens), size, config["repeats"])
            facts |= {f"p50_ms_{size}": found.p50, f"p95_ms_{size}": found.p95}
            times = {"call": range(len(found.milliseconds)), "milliseconds": found.milliseconds}
            calls.append(pd.DataFrame({"batch_size": size, **times}))
    job.write(pd.concat(calls, ignore_index=True), "latency.parquet")
    length = round(float(np.mean(with_specials(tokens.lengths, max_length))))
    return {
        **facts,
        "threads": THREADS,
        "device": device,
        "precision": precision,
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "parameters": count_parameters(model),
        "mean_length": length,
        "flops": forward_flops(shape, length, num_labels=model.num_labels),
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch's threads, put back afterwards: the process may go on to train."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
