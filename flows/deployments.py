"""The flows that are deployed (`tlm deploy`): one for each named study, and `own` for a study of your own.

A flow's parameters are the form that Prefect draws of it. None of them is optional, because Prefect draws two inputs of
what may be left out: each has a default that stands for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from prefect import Flow
from pydantic import Field

from flows.loading import Draft, load_study
from flows.studies import STUDIES
from flows.study import study_flow
from tlm.study.adapt import with_limit
from tlm.study.config import StudyConfig

OWN = "own"
"""The deployment of studies that have no name here."""
AS_SCALE = "scale"
"""The origin that the scale names."""

ScaleName = Literal["tiny", "small", "paper"]
OriginName = Literal["scale", "local", "hub"]
Steps = Annotated[int, Field(ge=0)]
Tree = dict[str, Any]


def at_scales(name: str) -> Callable[..., StudyConfig]:
    """The form of a named study that exists at several scales."""

    def form(
        scale: ScaleName = "tiny",
        origin: OriginName = "scale",
        limit_steps: Steps = 0,
        overrides: Sequence[str] = (),
        study: Tree = {},  # noqa: B006 – never changed, and Prefect's form needs a default that is JSON
    ) -> StudyConfig:
        """A named study at a scale.

        Args:
            scale: Tiny is for two cores, small and paper are for a GPU (docs/scales.md).
            origin: Where texts and tasks are read: local files under TLM_DATA_ROOT, the Hub, or what the scale says.
            limit_steps: A dry run: stop every training after so many steps. 0: train to the end.
            overrides: Fields to change, as for --set of `tlm run`, such as pretrain.epochs=5.
            study: For experts, a whole study as `tlm show` prints it, in JSON, instead of the named one and its scale.
        """
        return _study(name, overrides, limit_steps, study, scale=scale, origin=None if origin == AS_SCALE else origin)

    return form


def at_one_size(name: str) -> Callable[..., StudyConfig]:
    """The form of a named study that exists once."""

    def form(
        limit_steps: Steps = 0,
        overrides: Sequence[str] = (),
        study: Tree = {},  # noqa: B006 – as above
    ) -> StudyConfig:
        """A named study.

        Args:
            limit_steps: A dry run: stop every training after so many steps. 0: train to the end.
            overrides: Fields to change, as for --set of `tlm run`, such as pretrain.epochs=5.
            study: For experts, a whole study as `tlm show` prints it, in JSON, instead of the named one.
        """
        return _study(name, overrides, limit_steps, study)

    return form


def of_your_own(study: Tree, limit_steps: Steps = 0, overrides: Sequence[str] = ()) -> StudyConfig:
    """A study of your own; `tlm submit my_study.yaml` fills the form in.

    Args:
        study: The study as `tlm show` prints it, in JSON.
        limit_steps: A dry run: stop every training after so many steps. 0: train to the end.
        overrides: Fields to change, as for --set of `tlm run`, such as pretrain.epochs=5.
    """
    return _study(OWN, overrides, limit_steps, study)


def _study(
    name: str,
    overrides: Sequence[str],
    limit_steps: int,
    study: Mapping[str, Any],
    scale: str | None = None,
    origin: str | None = None,
) -> StudyConfig:
    """The study that a form asks for. Raises UserError."""
    if not study and name in STUDIES:
        return load_study(name, list(overrides), scale=scale, origin=origin, limit_steps=limit_steps or None)
    made = Draft("study", dict(study)).study(overrides)
    return with_limit(made, limit_steps) if limit_steps else made


def form_of(name: str) -> Callable[..., StudyConfig]:
    """A deployment's form: a function of its fields."""
    if name == OWN:
        return of_your_own
    return (at_scales if STUDIES[name].scaled else at_one_size)(name)


def variable(name: str) -> str:
    """What a deployment's flow is called in this module."""
    return name.replace("-", "_")


FLOWS: dict[str, Flow[..., Any]] = {name: study_flow(name, form_of(name)) for name in (*STUDIES, OWN)}
globals().update({variable(name): flow for name, flow in FLOWS.items()})
