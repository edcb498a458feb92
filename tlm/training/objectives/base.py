"""What pre-training asks of an objective.

To add one: a module with a subclass of `LanguageObjective`, and a line in `tlm.study.config.Objective`; outside the
package, a module that is named as an extension (`tlm.machine.extensions`). A study is planned with these classes, so that
methods that train import torch themselves.

Shapes: N predicted positions of a batch, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tlm.study.config import Objective, PretrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from tlm.data.tokenizer import Vocabulary
    from tlm.modeling.packing import Packed
    from tlm.training.loop import Inputs


Sums = dict[str, "tuple[Tensor | float, int]"]
"""By metric: its sum over the positions of a batch that it is about, and their number."""


class LanguageObjective(Objective):
    """An objective, with what makes it up: inputs, loss, metrics, and a teacher if there is one."""

    exact: ClassVar[bool] = False
    """Whether its held-out loss is -log p of all of the text, token by token, each but the first given those before it:
    then it is said in bits a byte too."""

    @abstractmethod
    def inputs(self, batch: Packed, vocabulary: Vocabulary, config: PretrainConfig, *, seed: int, step: int) -> Inputs:
        """What the trained module's `loss` is called with for one batch; a function of its arguments alone, so that a run
        can go on from any step.
        """

    def trained_module(self, model: Any) -> Any:
        """The torch module that is trained: it has `loss(**inputs)`, a mean over the batch.

        By default the language model itself. An objective with a teacher, a generator or a head of its own returns a
        module that holds `model` beside these. Their weights are in checkpoints, and those that require gradients are
        trained; the result of pre-training is `model` alone.
        """
        return model

    def heldout_inputs(
        self, batch: Packed, vocabulary: Vocabulary, config: PretrainConfig, *, seed: int, step: int
    ) -> Inputs:
        """What `heldout_sums` is given for one batch of the held-out part; by default what is trained on."""
        return self.inputs(batch, vocabulary, config, seed=seed, step=step)

    def heldout_sums(self, module: Any, inputs: Mapping[str, Any]) -> Sums:
        """Each metric of one batch, in evaluation mode; none for a batch of which nothing is predicted.

        By default `loss`, the cross entropy in nats, and `accuracy`, for inputs with `labels_N` and a module with
        `logits(**other inputs)`, (N, V). Facts and curves call a metric `heldout_loss`, and so on; `loss` and `accuracy`
        must be among them.
        """
        from torch.nn.functional import cross_entropy

        others = dict(inputs)
        labels_N = others.pop("labels_N")
        if not len(labels_N):
            return {}
        logits_NV = module.logits(**others).float()
        loss = cross_entropy(logits_NV, labels_N, reduction="sum")
        right = (logits_NV.argmax(dim=1) == labels_N).sum()
        return {"loss": (loss, len(labels_N)), "accuracy": (right, len(labels_N))}
