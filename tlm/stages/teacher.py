"""Stage `teacher`: what fine-tuned models say of the items that they were trained on, for a student to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.stages.base import Aside, Stage
from tlm.stages.task import Task
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job

LOGITS = "logits.npy"


class Teacher(Stage, name="teacher", version="1", trains=True):
    """logits.npy: each member's logits of the task's training items, (members, items, labels) float32, in the order of the
    members and of the items. Dev and test items are not looked at.
    """

    members: tuple[Stage, ...] = ()
    """Stages `finetune` of the same task: at least one. (A student is such a stage, too, and has a teacher.)"""
    task: Task
    tokens: Tokens
    tokenizer: Tokenizer
    committee: Aside[str]
    """What the study calls the members together."""

    requires = ("scipy", "torch", "transformers")
    reads_weights = True
    outputs = {LOGITS: None}

    @property
    def slug(self) -> str:
        return f"{self.committee}-{self.members[0].step.slug}"

    @property
    def labels(self) -> dict[str, Label]:
        own = ("ws", "treatment", "init", "pretrain_seed", "finetune_seed")
        first = self.members[0].labels
        return {"task": self.task.task, "committee": self.committee} | {
            name: first[name] for name in own if name in first
        }

    def run(self, job: Job) -> Facts:
        import numpy as np
        import torch

        from tlm.evaluation.committee import soft
        from tlm.inference.finetuned import FinetunedModel
        from tlm.modeling.cost import classifier_flops
        from tlm.modeling.packing import with_specials

        torch.set_num_threads(job.runtime.threads)
        items = job.frame("task", "items.parquet")
        items = items[items["part"] == "train"]
        rows, tokens, vocabulary = items["row"].to_numpy(), job.sequences("tokens"), job.vocabulary()
        members = job.members()
        shape = (len(members), len(rows), int(job.inputs["task"].record.facts["labels"]))
        logits_MNC = np.lib.format.open_memmap(job.out / LOGITS, mode="w+", dtype=np.float32, shape=shape)
        flops = 0.0
        for done, member in enumerate(members):
            job.progress(done, len(members))
            model = FinetunedModel.load(member, job.runtime.torch_device())
            logits_MNC[done] = model.logits(tokens, rows, vocabulary)
            length = round(float(np.mean(with_specials(tokens.lengths[rows], model.max_length))))
            flops += len(rows) * classifier_flops(model.architecture, length, shape[-1])
        logits_MNC.flush()
        said_NC = soft(np.asarray(logits_MNC, dtype=np.float64))
        return {
            "members": len(members),
            "train_items": len(rows),
            "train_accuracy": float((said_NC.argmax(axis=1) == items["label"]).mean()),
            "mean_probability": float(said_NC.max(axis=1).mean()),
            "flops": flops,
        }
