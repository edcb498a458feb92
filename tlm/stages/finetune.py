"""Stage `finetune`: a classifier of a task, from a pre-trained model, from word vectors or from scratch, and its
predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.artifacts.tables import METRICS, PREDICTIONS
from tlm.stages.base import Aside, Stage
from tlm.stages.ppmi_svd import PpmiSvd
from tlm.stages.pretrain import CONFIG_AND_WEIGHTS, WEIGHTS, Pretrain, in_arm
from tlm.stages.task import Task
from tlm.stages.teacher import LOGITS, Teacher
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig
from tlm.study.distillation import DISTILLED, Distillation
from tlm.study.initialization import Initialization

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job
    from tlm.training.distillation import Teaching


class Finetune(Stage, name="finetune", version="4", trains=True):
    """model.safetensors and config.json of a classifier, with its labels' names and its tokenizer's files;
    predictions.parquet (dev and test); metrics.parquet.
    """

    task: Task
    tokens: Tokens
    tokenizer: Tokenizer
    architecture: Architecture
    finetune: FinetuneConfig
    max_length: int
    seed: int
    initialization: Initialization = Initialization()
    pretrained: Pretrain | None = None
    """None: from scratch."""
    embeddings: PpmiSvd | None = None
    """What the tokens of a model from scratch begin as; None: at random."""
    teacher: Teacher | None = None
    """What it learns from beside the labels; None: from these alone."""
    distillation: Distillation | None = None
    """How it learns from its teacher."""
    arm: Aside[str | None] = None
    """Of the study, whose way to train this is."""

    role = "predicts"
    requires = ("torch", "transformers")
    weights = WEIGHTS
    reads_weights = True
    outputs = {
        **dict.fromkeys(CONFIG_AND_WEIGHTS),
        "metrics.parquet": METRICS,
        "predictions.parquet": PREDICTIONS,
    }

    @property
    def slug(self) -> str:
        name = "-".join(part for part in (self.architecture.name, self.arm) if part)
        start = f"{name}-scratch"
        if self.embeddings is not None:
            start = f"{name}-svd-{self.embeddings.corpus.step.slug}"
        if self.pretrained is not None:
            start = self.pretrained.step.slug
        taught = f"{DISTILLED}-" if self.teacher else ""
        return f"{self.task.slug}-{start}-{taught}f{self.seed}"

    @property
    def labels(self) -> dict[str, Label]:
        start: dict[str, Label]
        if self.pretrained is not None:
            start = {**self.pretrained.labels, "init": "pretrained"}
        elif self.embeddings is not None:
            start = {**self.embeddings.labels, "arch": self.architecture.name, "init": "svd"}
        else:
            start = {"ws": 0, "arch": self.architecture.name, "treatment": None, "init": "scratch"}
        return {
            **start,
            **in_arm(DISTILLED if self.teacher else self.arm),
            "task": self.task.task,
            "finetune_seed": self.seed,
        }

    def run(self, job: Job) -> Facts:
        import torch

        from tlm.modeling.interchange import name_labels, save
        from tlm.training.finetune import finetune

        torch.set_num_threads(job.runtime.threads)
        start = job.inputs.get("pretrained")
        with job.stream("predictions.parquet", ["item_id", "part", "label", "logits"]) as sink:
            done = finetune(
                job.sequences("tokens"),
                job.frame("task", "items.parquet"),
                job.vocabulary(),
                self.architecture,
                self.finetune,
                max_length=self.max_length,
                seed=self.seed,
                sink=sink,
                pretrained=start.folder(CONFIG_AND_WEIGHTS) if start else None,
                initialization=self.initialization,
                embeddings=job.embeddings(),
                teaching=self._teaching(job),
                device=job.runtime.torch_device(),
                hooks=job.training_hooks(),
                progress=job.progress,
            )
        name_labels(done.model, job.inputs["task"].record.facts["label_names"])
        save(done.model, job.out)
        job.copy_tokenizer(self.max_length)
        job.write(done.curve.frame(), "metrics.parquet")
        return {**done.facts}

    def _teaching(self, job: Job) -> Teaching | None:
        """What its teacher's soft committee says of the training items at the temperature of the loss."""
        if self.distillation is None:
            return None
        import numpy as np

        from tlm.evaluation.committee import soft
        from tlm.training.distillation import Teaching

        logits_MNC = np.load(job.inputs["teacher"].path(LOGITS), allow_pickle=False)
        return Teaching(soft(logits_MNC.astype(np.float64) / self.distillation.temperature), self.distillation)
