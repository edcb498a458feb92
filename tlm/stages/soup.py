"""Stage `soup`: one model whose weights are the mean of several fine-tunings of one pre-trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm.artifacts.step import Label
from tlm.artifacts.tables import PREDICTIONS
from tlm.stages.base import Stage
from tlm.stages.finetune import Finetune
from tlm.stages.pretrain import CONFIG_AND_WEIGHTS, WEIGHTS, in_arm
from tlm.stages.task import Task
from tlm.stages.tokenizer import Tokenizer
from tlm.stages.tokens import Tokens
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig
from tlm.study.soups import SOUP

if TYPE_CHECKING:
    from tlm.stages.job import Facts, Job


class Soup(Stage, name="soup", version="1", trains=True):
    """model.safetensors and config.json of a classifier, with its labels' names and its tokenizer's files;
    predictions.parquet (dev and test).
    """

    members: tuple[Finetune, ...] = ()
    """At least two, which differ by their seed alone."""
    task: Task
    tokens: Tokens
    tokenizer: Tokenizer
    architecture: Architecture
    finetune: FinetuneConfig
    """Of the members."""
    max_length: int

    role = "predicts"
    weights = WEIGHTS
    reads_weights = True
    requires = ("torch", "transformers")
    outputs = {**dict.fromkeys(CONFIG_AND_WEIGHTS), "predictions.parquet": PREDICTIONS}

    @classmethod
    def of_members(cls, members: tuple[Finetune, ...]) -> Soup:
        """With what the members have in common."""
        first = members[0]
        return cls(
            members=members,
            task=first.task,
            tokens=first.tokens,
            tokenizer=first.tokenizer,
            architecture=first.architecture,
            finetune=first.finetune,
            max_length=first.max_length,
        )

    @property
    def slug(self) -> str:
        return f"{self.members[0].step.slug.rpartition('-')[0]}-{SOUP}"

    @property
    def labels(self) -> dict[str, Label]:
        own = {name: label for name, label in self.members[0].labels.items() if name != "finetune_seed"}
        return {**own, **in_arm(SOUP)}

    def run(self, job: Job) -> Facts:
        import torch

        from tlm.inference.finetuned import FinetunedModel
        from tlm.modeling.averaging import average_weights
        from tlm.modeling.cost import count_parameters
        from tlm.modeling.interchange import name_labels, save
        from tlm.stages.held_out import predict_held_out

        torch.set_num_threads(job.runtime.threads)
        loaded = [FinetunedModel.load(member, job.runtime.torch_device()) for member in job.members()]
        soup = loaded[0]
        average_weights([each.model for each in loaded])
        facts = predict_held_out(job, soup)
        name_labels(soup.model, job.inputs["task"].record.facts["label_names"])
        save(soup.model, job.out)
        job.copy_tokenizer(self.max_length)
        return {**facts, "members": len(loaded), "parameters": count_parameters(soup.model)}
