"""The evaluation by likelihood: which of several options a language model gives the highest probability, and whose data."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from tlm.study.base import Frozen, Name
from tlm.study.config import Evaluation


class BenchmarkConfig(Frozen):
    """What every benchmark has: a path under the data root (a file, or a folder of files), which is not identity.

    Its reader is in `tlm.data.benchmarks`.
    """

    kind: str
    path: str
    average: Literal["items", "groups"] = "items"
    """groups: the score is the mean over groups of items."""

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.kind


class Blimp(BenchmarkConfig):
    """BLiMP (arXiv 1912.00582): 67 paradigms of 1,000 pairs of sentences, one acceptable; the mean over paradigms."""

    kind: Literal["blimp"] = "blimp"
    path: str = "evaluation/blimp/data"
    average: Literal["groups"] = "groups"


class ArcEasy(BenchmarkConfig):
    """ARC-easy (arXiv 1803.05457): science questions, each with its answers as options."""

    kind: Literal["arc_easy"] = "arc_easy"
    path: str = "evaluation/arc_easy/test.jsonl"


class HellaSwag(BenchmarkConfig):
    """HellaSwag (arXiv 1905.07830): how a description of an activity goes on."""

    kind: Literal["hellaswag"] = "hellaswag"
    path: str = "evaluation/hellaswag/hellaswag_val.jsonl"


class WinoGrande(BenchmarkConfig):
    """WinoGrande (arXiv 1907.10641), by partial evaluation: what follows the blank, given the sentence up to there with
    either name filled in.
    """

    kind: Literal["winogrande"] = "winogrande"
    path: str = "evaluation/winogrande/dev.jsonl"


class Mmlu(BenchmarkConfig):
    """MMLU (arXiv 2009.03300) without examples: questions of 57 subjects, each with the text of its answers as options."""

    kind: Literal["mmlu"] = "mmlu"
    path: str = "evaluation/mmlu/test"


class OptionFiles(BenchmarkConfig):
    """A user's own JSON lines: on each line the options, the index of the right one (from 0), and perhaps a prefix."""

    kind: Literal["files"] = "files"
    prefix_column: str | None = Field("prefix", description="what comes before each option; null: nothing does")
    options_column: str = "options"
    gold_column: str = "gold"
    group_column: str | None = Field(None, description="by which items are grouped")
    separator: str = Field(" ", description="stands between the prefix and each option")

    @model_validator(mode="after")
    def _groups_are_known(self) -> OptionFiles:
        if self.average == "groups" and self.group_column is None:
            raise ValueError("average: groups, but no group_column says which group an item is of")
        return self

    @property
    def title(self) -> str:
        return PurePosixPath(self.path).stem


def _by_name(given: Any) -> Any:
    return {"kind": given} if isinstance(given, str) else given


Benchmark = Annotated[
    Annotated[Blimp | ArcEasy | HellaSwag | WinoGrande | Mmlu | OptionFiles, Field(discriminator="kind")],
    BeforeValidator(_by_name),
]
"""In a study file the name alone, `data: blimp`, or with its fields: `data: {kind: blimp, path: my/blimp}`."""

Normalization = Literal["sum", "per_byte"]
TooLong = Literal["refuse", "skip", "cut_prefix"]


class Likelihood(Evaluation):
    """Every pre-trained model scores the options of every item of a benchmark; the likeliest is its answer."""

    kind: Literal["likelihood"] = "likelihood"
    data: Benchmark
    name: Name | None = Field(None, description="what tables call it; default: the benchmark's name, or the file's")
    normalization: Normalization = Field(
        "sum", description="sum: of the log probabilities of an option's tokens; per_byte: that over its bytes of UTF-8"
    )
    limit: PositiveInt | None = Field(None, description="the first so many items of each group; default: all")
    too_long: TooLong = Field(
        "refuse",
        description="of an option that does not fit max_length with its prefix. refuse: an error; skip: its item is "
        "counted as not scored; cut_prefix: the prefix loses its beginning, and the item is counted as cut",
    )

    @property
    def title(self) -> str:
        return self.name or self.data.title
