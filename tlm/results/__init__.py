"""From a study's records to its answer: one analysis for each question, over the same evidence.

An analysis is a function `(Evidence) -> Findings` and a line in `ANALYSES`; a study names it in its field `analysis`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlm.report.evidence import Evidence
    from tlm.report.findings import Findings


@dataclass(frozen=True)
class Analysis:
    """Where an analysis is, imported only when it is used, and the question it answers."""

    target: str
    question: str
    gap: bool = False
    """Whether a gap is what it asks for: what language modelling adds to "SVD only" is then a verdict beside it."""

    @cached_property
    def function(self) -> Callable[[Evidence], Findings]:
        module, _, name = self.target.partition(":")
        found: Callable[[Evidence], Findings] = getattr(import_module(module), name)
        return found


ANALYSES: dict[str, Analysis] = {
    "ws-sweep": Analysis("tlm.results.ws_sweep:analyse", "How does the gap depend on Ws?", gap=True),
    "missing-tokens": Analysis("tlm.results.missing_tokens:analyse", "What do missing tokens cost at fixed Ws?"),
    "committee": Analysis(
        "tlm.results.committees:analyse", "Can a soft committee of shallow models replace a deep one?"
    ),
    "custom-corpus": Analysis("tlm.results.custom_corpus:analyse", "Is a pre-training set chosen for the task better?"),
    "overlap-predictor": Analysis(
        "tlm.results.overlap_predictor:analyse", "Which measure of token overlap predicts the gap best?"
    ),
    "irrelevant-tokens": Analysis(
        "tlm.results.irrelevant_tokens:analyse", "What do tokens do that the task never uses?"
    ),
    "domain-shift": Analysis(
        "tlm.results.domain_shift:analyse", "What is Wikipedia worth to tasks of another domain?", gap=True
    ),
    "decoder-committee": Analysis(
        "tlm.results.decoder_committee:analyse", "Do committees of shallow decoders replace a deep one?", gap=True
    ),
    "task-complexity": Analysis(
        "tlm.results.task_complexity:analyse", "How do gap and committee depend on the number of labels?"
    ),
    "word-order": Analysis("tlm.results.word_order:analyse", "How much of the gap is word order?", gap=True),
    "recipe": Analysis("tlm.results.recipe:analyse", "How many FLOPs does a better recipe save at equal accuracy?"),
    "committee-distillation": Analysis(
        "tlm.results.committee_distillation:analyse",
        "Does a student keep a committee's advantage at one model's latency?",
    ),
    "weight-soup": Analysis(
        "tlm.results.weight_soup:analyse", "Does a mean of weights do what a soft committee of the same members does?"
    ),
    "compression": Analysis("tlm.results.compression:analyse", "What do int8 and pruning cost, and what do they save?"),
    "stlm-baseline": Analysis(
        "tlm.results.stlm_baseline:analyse", "What does a super tiny language model know without fine-tuning?"
    ),
    "ffn-sharing": Analysis(
        "tlm.results.stlm_pairs:ffn_sharing", "What does it cost layers to have one feed-forward network?"
    ),
    "weight-tying": Analysis("tlm.results.stlm_pairs:weight_tying", "What do tied embeddings cost?"),
    "byte-pooling": Analysis(
        "tlm.results.stlm_bytes:byte_pooling", "Do pooled bytes replace a vocabulary's embeddings at equal BLiMP?"
    ),
    "byte-head": Analysis(
        "tlm.results.stlm_bytes:byte_head", "Does a model of bytes need to predict them one after another?"
    ),
    "early-exit": Analysis(
        "tlm.results.early_exit:analyse", "What does it cost tokens to leave after half of the layers?"
    ),
    "objectives": Analysis(
        "tlm.results.stlm_training:objectives", "Does a decoder learn more from masked sequences and causal ones?"
    ),
    "dropout-schedule": Analysis(
        "tlm.results.stlm_training:dropout_schedule",
        "Does dropout help where text is repeated, and hurt where it is not?",
    ),
    "second-draw": Analysis("tlm.results.second_draw:analyse", "Do the gaps repeat on items never used before?"),
}
"""By name, in the order of the document: the paper's results, then what it leaves open."""


def find(evidence: Evidence) -> Findings:
    """What the study's analysis finds, with "SVD only" and the baselines beside it; nothing if it names no analysis.

    Where the analysis draws nothing, its verdicts are drawn.
    """
    from tlm.report.findings import Findings
    from tlm.report.intervals import of_verdicts
    from tlm.report.matrix import matrix_of
    from tlm.results.baselines import baseline_table
    from tlm.results.svd_only import beyond_svd, svd_table

    study = evidence.study
    if study.analysis is None:
        return Findings()
    analysis = ANALYSES[study.analysis]
    findings = analysis.function(evidence)
    verdicts = [*findings.verdicts, *(beyond_svd(evidence) if analysis.gap else ())]
    rest_on = None if findings.plots else of_verdicts(matrix_of(verdicts, study), f"{study.name}-verdicts")
    return replace(
        findings,
        verdicts=verdicts,
        plots=[rest_on] if rest_on else findings.plots,
        tables=[*findings.tables, *svd_table(evidence), *baseline_table(evidence)],
    )
