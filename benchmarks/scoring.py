"""Sentences a second of scoring BLiMP by likelihood: `python -m benchmarks.scoring`.

Timed is what the stage `option_scores` does beside reading its files: from token ids to Σ log p of each sentence, in
float32. The model has random weights (`micro`, unless `--model` says otherwise) and the vocabulary of tlm's default size,
trained on the first paragraphs of Wikipedia. Sentences are the first `--limit` pairs of each of BLiMP's paradigms; equal
ones are computed once. Needs TLM_DATA_ROOT and a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.workload import VOCABULARY_PARAGRAPHS
from tlm.data import benchmarks, sources
from tlm.data.benchmarks.tokens import OptionTokens, tokenise
from tlm.data.tokenizer import Vocabulary
from tlm.data.wordpiece import TrainedTokenizer
from tlm.evaluation.likelihood import log_likelihoods
from tlm.machine.allocator import keep_heap
from tlm.study.architecture import VARIANTS, variant
from tlm.study.likelihood import Blimp
from tlm.study.sources import WikipediaSource
from tlm.training.pretrain import untrained

MAX_LENGTH = 64


@dataclass(frozen=True)
class Scored:
    """What was timed: the median of the rounds, and their range, in sentences a second."""

    sentences: int
    distinct: int
    rates: tuple[float, ...]

    @property
    def text(self) -> str:
        low, high = min(self.rates), max(self.rates)
        return (
            f"{self.sentences:,} sentences ({self.distinct:,} distinct): {median(self.rates):,.0f} a second "
            f"({low:,.0f} to {high:,.0f} in {len(self.rates)} rounds)"
        )


def main(arguments: Sequence[str] | None = None) -> Scored:
    """Measure and print. Raises UserError if data are missing, before any measurement."""
    options = _parser().parse_args(arguments)
    keep_heap()
    torch.set_num_threads(options.threads)
    vocabulary, tokens = sentences(options.limit)
    model = untrained(variant(options.model), vocabulary, max_length=MAX_LENGTH, seed=0)
    rates = []
    for _ in range(options.rounds + 1):
        began = time.perf_counter()
        log_likelihoods(model, tokens.texts, tokens.starts, vocabulary, max_length=MAX_LENGTH)
        rates.append(len(tokens.texts) / (time.perf_counter() - began))
    distinct = len({tokens.texts[row].tobytes() for row in range(len(tokens.texts))})
    found = Scored(len(tokens.texts), distinct, tuple(rates[1:]))  # the first round compiles products of new shapes
    print(
        f"{options.model}, {options.threads} threads of torch, {len(vocabulary):,} tokens of vocabulary; {found.text}"
    )
    return found


def sentences(limit: int) -> tuple[Vocabulary, OptionTokens]:
    """The first pairs of each paradigm, and the vocabulary that they are cut by."""
    data_root = os.environ.get("TLM_DATA_ROOT", "")
    items = benchmarks.read(Blimp(), data_root, limit)
    read = sources.read(WikipediaSource(origin="local"), data_root)
    texts = read.table["text"].slice(0, VOCABULARY_PARAGRAPHS).to_pylist()
    tokenizer = TrainedTokenizer().make(lambda: texts, data_root)
    return tokenizer.vocabulary, tokenise(items, tokenizer, MAX_LENGTH, "refuse")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", default="micro", choices=sorted(VARIANTS), help="a variant (default micro)")
    parser.add_argument("--limit", type=int, default=100, help="pairs of each paradigm (default 100)")
    parser.add_argument("--rounds", type=int, default=5, help="how often they are scored, one more aside (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default 2)")
    return parser


if __name__ == "__main__":
    main()
