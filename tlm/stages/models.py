"""Stages that train: pretrain, finetune."""

from __future__ import annotations

from typing import Any

import torch

from tlm.modeling.interchange import save
from tlm.stages.job import Facts, Job
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig, PretrainConfig
from tlm.training.finetune import finetune as run_finetune
from tlm.training.pretrain import pretrain as run_pretrain

CONFIG_AND_WEIGHTS = ("config.json", "model.safetensors")


def pretrain(job: Job) -> Facts:
    """model.safetensors and config.json of a language model; metrics.parquet."""
    config, arch = _settings(job)
    done = run_pretrain(
        job.sequences("corpus"),
        job.sequences("corpus", "heldout"),
        job.vocabulary(),
        arch,
        PretrainConfig.model_validate(config["pretrain"]),
        max_length=config["max_length"],
        seed=config["seed"],
        device=job.runtime.torch_device(),
        checkpoints=job.checkpoints(),
        progress=job.progress,
    )
    save(done.model, job.out)
    job.write(done.curve.frame(), "metrics.parquet")
    return {**done.facts}


def finetune(job: Job) -> Facts:
    """model.safetensors and config.json of a classifier; predictions.parquet (dev and test); metrics.parquet."""
    config, arch = _settings(job)
    start = job.inputs.get("pretrained")
    with job.stream("predictions.parquet", ["item_id", "part", "label", "logits"]) as sink:
        done = run_finetune(
            job.sequences("tokens"),
            job.frame("task", "items.parquet"),
            job.vocabulary(),
            arch,
            FinetuneConfig.model_validate(config["finetune"]),
            max_length=config["max_length"],
            seed=config["seed"],
            sink=sink,
            pretrained=start.folder(CONFIG_AND_WEIGHTS) if start else None,
            device=job.runtime.torch_device(),
            checkpoints=job.checkpoints(),
            progress=job.progress,
        )
    save(done.model, job.out)
    job.write(done.curve.frame(), "metrics.parquet")
    return {**done.facts}


def _settings(job: Job) -> tuple[dict[str, Any], Architecture]:
    torch.set_num_threads(job.runtime.threads)
    config: dict[str, Any] = dict(job.config)
    return config, Architecture.model_validate({"name": str(job.step.labels["arch"]), **config["architecture"]})
