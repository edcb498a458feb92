"""Parameter groups: which parameters learn at which share of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tlm.study.config import FinetuneConfig, Optimisation


class LearningRates:
    """How much of the learning rate each parameter of a model gets: all of it, unless the config has `layer_decay`."""

    def __init__(self, model: Any, config: Optimisation) -> None:
        self._share: dict[int, float] = {}
        if isinstance(config, FinetuneConfig) and config.layer_decay != 1.0:
            from tlm.modeling.families.base import family_of

            depth_of, top = family_of(model.config).depth_of, model.config.num_hidden_layers + 1
            self._share = {
                id(parameter): config.layer_decay ** (top - depth_of(name, top - 1))
                for name, parameter in model.named_parameters()
            }

    def groups(self, parameters: Iterable[Any], scale: float = 1.0) -> list[dict[str, Any]]:
        """The parameters by the share of the learning rate that they get, times `scale`: the group's `lr_scale`.

        A group that gets all of it has none.
        """
        by_scale: dict[float, list[Any]] = {}
        for parameter in parameters:
            by_scale.setdefault(scale * self._share.get(id(parameter), 1.0), []).append(parameter)
        return [
            {"params": chosen} if own == 1.0 else {"params": chosen, "lr_scale": own}
            for own, chosen in by_scale.items()
        ]
