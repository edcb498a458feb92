"""What can be done to a pre-training set beyond drawing Ws paragraphs at random: one frozen model for each kind.

A treatment makes one more pre-training set of a study, at a Ws of its own; models pre-trained on it are set beside those of
the plain set of the same size. `label` names it in tables, `task` is the one task it is about (None: all of them). The
functions that do it are in `tlm.data.injection`, `tlm.data.samplers`, `tlm.data.word_order` and, for foreign text,
`tlm.stages.mix`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from tlm.study.base import Frozen, Name, Seed, Share
from tlm.study.sources import Source


class Removal(Frozen):
    """Which and how many tokens to remove from a pre-training set, and how."""

    count: PositiveInt | None = Field(None, description="how many distinct tokens to remove")
    share: Share | None = Field(None, description="or: which share of the tokens in common")
    selection: Name = "random"
    removal: Name = "unk"
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_amount(self) -> Removal:
        if (self.count is None) == (self.share is None):
            raise ValueError("give either count or share")
        return self

    @property
    def label(self) -> str:
        amount = str(self.count) if self.count is not None else f"{100 * (self.share or 0):g}pct"
        return f"{self.selection}-{self.removal}-{amount}"


class MissingTokens(Removal):
    """Make some of a task's tokens missing from a pre-training set, at fixed Ws (paper: Table 4)."""

    kind: Literal["missing_tokens"] = "missing_tokens"
    task: Name
    ws: PositiveInt


class Sampled(Frozen):
    """Ws paragraphs chosen for a task, by one of the samplers that look at its training items."""

    kind: Literal["sampled"] = "sampled"
    task: Name
    ws: PositiveInt
    sampler: Name
    level: Share | None = Field(None, description="for samplers that take one: the quantile they aim at")

    @property
    def label(self) -> str:
        return self.sampler if self.level is None else f"{self.sampler}-{self.level:g}"


class Shuffled(Frozen):
    """The plain set of size Ws with its words in another order: within each sentence, or over the whole corpus."""

    kind: Literal["shuffled"] = "shuffled"
    ws: PositiveInt
    scope: Literal["sentence", "corpus"]
    seed: Seed = 0

    @property
    def task(self) -> None:
        return None

    @property
    def label(self) -> str:
        return f"shuffled-{self.scope}"


class Foreign(Frozen):
    """Text of another source, alone or beside paragraphs of the study's own: Ws = own + general."""

    kind: Literal["foreign"] = "foreign"
    name: Name
    source: Source
    own: PositiveInt = Field(description="paragraphs of this source")
    general: NonNegativeInt = Field(
        0, description="paragraphs of the study's source, as its plain set of that size holds"
    )

    @property
    def ws(self) -> int:
        return self.own + self.general

    @property
    def task(self) -> None:
        return None

    @property
    def label(self) -> str:
        return self.name


Treatment = Annotated[MissingTokens | Sampled | Shuffled | Foreign, Field(discriminator="kind")]
