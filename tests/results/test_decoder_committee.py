"""Committees of decoders: what is found is what was put in, of decoders alone."""

from __future__ import annotations

from typing import Any

from made_up import MadeUp, study

from tlm.report.evidence import Evidence
from tlm.results.decoder_committee import analyse

UNRESOLVED = "undecided at this scale"


def config(kind: str = "decoder") -> Any:
    small = {"hidden_size": 8, "num_attention_heads": 2}
    layers = {"deep": (6, 32, kind), "wide": (1, 24, kind), "narrow": (1, 16, kind), "other": (8, 16, "encoder")}
    return study(
        sizes=(0, 400),
        architectures=[
            {"name": name, "kind": kind, **small, "num_hidden_layers": depth, "intermediate_size": width}
            for name, (depth, width, kind) in layers.items()
        ],
        committees=[
            {"name": "pair", "members": ("wide", "narrow")},
            {"name": "deepest", "members": ("deep",)},
            {"name": "mixed", "members": ("wide", "other")},
        ],
    )


def measured(scratch: float, deep: float, shallow: float, committee: float, *, seeds: int = 3) -> Evidence:
    made = MadeUp(config(), items=3_000)
    for system, accuracy in (("deep", deep), ("wide", shallow), ("narrow", shallow)):
        made.finetuned("topics", system, 0, scratch, seeds=seeds, spread=0.002)
        made.finetuned("topics", system, 400, accuracy, seeds=seeds, spread=0.002)
    for ws, accuracy in ((0, scratch), (400, committee)):
        made.committee("topics", "pair", ws, 1, accuracy, instances=2 * seeds, spread=0.002)
        made.committee("topics", "pair", ws, 2, accuracy, instances=seeds, spread=0.002)
        made.committee("topics", "deepest", ws, 1, deep, instances=seeds, spread=0.002)
    return made.evidence()


def outcomes(evidence: Evidence) -> dict[str, str]:
    return {verdict.claim: verdict.outcome for verdict in analyse(evidence).verdicts}


def only(found: dict[str, str], *words: str) -> str:
    (outcome,) = [outcome for claim, outcome in found.items() if all(word in claim for word in words)]
    return outcome


def test_committee_that_replaces_the_deep_decoder(laid_out: None) -> None:
    evidence = measured(0.4, 0.6, 0.55, 0.68)
    found = outcomes(evidence)
    for system in ("deep", "wide", "narrow", "pair"):
        assert only(found, f"helps {system} ") == "yes"
    assert only(found, "replaces one deep") == "yes"
    assert not [claim for claim in found if "other" in claim or "mixed" in claim]
    findings = analyse(evidence)
    assert all(plot.png for plot in findings.plots)
    assert len({plot.name for plot in findings.plots}) == len(findings.plots)
    assert len(findings.tables[0].rows) == 4


def test_committee_that_does_not() -> None:
    found = outcomes(measured(0.4, 0.6, 0.5, 0.52))
    assert only(found, "replaces one deep") == "no"


def test_pre_training_that_does_nothing_or_harm() -> None:
    found = outcomes(measured(0.5, 0.5, 0.3, 0.5))
    assert only(found, "helps deep ") == UNRESOLVED
    assert only(found, "helps wide ") == "no"


def test_one_seed_resolves_no_gap_and_no_replacement() -> None:
    found = outcomes(measured(0.3, 0.6, 0.55, 0.8, seeds=1))
    assert {only(found, f"helps {system} ") for system in ("deep", "wide", "narrow", "pair")} == {UNRESOLVED}
    assert only(found, "replaces one deep") == UNRESOLVED


def test_what_is_missing_is_not_measured() -> None:
    assert set(outcomes(MadeUp(config()).evidence()).values()) == {"not measured"}
    assert list(outcomes(MadeUp(study()).evidence()).values()) == ["not measured"]


def test_encoders_are_left_to_the_other_study() -> None:
    (verdict,) = analyse(MadeUp(config("encoder")).evidence()).verdicts
    assert verdict.outcome == "not measured" and verdict.figure == "the study has no decoder"
