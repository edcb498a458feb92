"""Every stage, a class each in a module of its name; `tlm.stages.base` says what a stage is.

What a stage *does* is in the rooms below (`tlm.data.corpus`, `tlm.training.pretrain`, …), as plain functions over arrays
and tables, for a notebook to call; the classes here say what it is made from, what identifies it and what it makes.

To add a stage: a module with its class, and its import below. To have it run: a place in `tlm.planning.graph`.
"""

from __future__ import annotations

# In the order in which a study needs them; tables by stage keep it.
from tlm.stages.source import Source  # isort: skip
from tlm.stages.tokenizer import Tokenizer  # isort: skip
from tlm.stages.tokens import Tokens  # isort: skip
from tlm.stages.task import Task  # isort: skip
from tlm.stages.corpus import Corpus  # isort: skip
from tlm.stages.overlap import Overlap  # isort: skip
from tlm.stages.duplicates import Duplicates  # isort: skip
from tlm.stages.inject import Inject  # isort: skip
from tlm.stages.shuffle import Shuffle  # isort: skip
from tlm.stages.mix import Mix  # isort: skip
from tlm.stages.ppmi_svd import PpmiSvd  # isort: skip
from tlm.stages.pretrain import Pretrain  # isort: skip
from tlm.stages.finetune import Finetune  # isort: skip
from tlm.stages.teacher import Teacher  # isort: skip
from tlm.stages.committee import Committee  # isort: skip
from tlm.stages.soup import Soup  # isort: skip
from tlm.stages.latency import Latency  # isort: skip
from tlm.stages.baseline import Baseline  # isort: skip
from tlm.stages.benchmark import Benchmark  # isort: skip
from tlm.stages.contained import Contained  # isort: skip
from tlm.stages.ngram_scores import NgramScores  # isort: skip
from tlm.stages.untrained_scores import UntrainedScores  # isort: skip
from tlm.stages.compress_pretrained import CompressPretrained  # isort: skip
from tlm.stages.option_scores import OptionScores  # isort: skip
from tlm.stages.likelihood import Likelihood  # isort: skip
from tlm.stages.compress import Compress  # isort: skip
from tlm.stages.exit_sweep import ExitSweep  # isort: skip
from tlm.stages.exit_scores import ExitScores  # isort: skip
from tlm.stages.report import Report  # isort: skip
from tlm.stages.base import STAGES, Stage  # isort: skip

__all__ = [
    "STAGES",
    "Baseline",
    "Benchmark",
    "Committee",
    "Compress",
    "CompressPretrained",
    "Contained",
    "Corpus",
    "Duplicates",
    "ExitScores",
    "ExitSweep",
    "Finetune",
    "Inject",
    "Latency",
    "Likelihood",
    "Mix",
    "NgramScores",
    "OptionScores",
    "Overlap",
    "PpmiSvd",
    "Pretrain",
    "Report",
    "Shuffle",
    "Soup",
    "Source",
    "Stage",
    "Task",
    "Teacher",
    "Tokenizer",
    "Tokens",
    "UntrainedScores",
]
