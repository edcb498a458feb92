"""The studies of super tiny models say what was put into their evidence, and nothing where there is none."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_up import outcome

from flows.studies import STUDIES
from tlm.errors import UserError
from tlm.report.evidence import Evidence
from tlm.report.findings import Findings, Outcome
from tlm.report.options import LITTLE_LOSS, benchmarks_of
from tlm.report.packed import PACKING, SCHEMAS, save_packed, unpacked
from tlm.report.study_systems import models
from tlm.results import find
from tlm.results.made_up import MadeUpResults
from tlm.results.published import STUDY, STUDY_SCHEMA, load

SEEDS = 3
EARLY = "exits, exits 50 %"


def made(
    name: str,
    scores: dict[str, float],
    *,
    scale: str = "tiny",
    seeds: int = SEEDS,
    recorded: dict[str, dict[str, Any]] | None = None,
) -> MadeUpResults:
    """Every benchmark of a study, each model at its score: by name, with its Ws where the study has several, or of a
    benchmark. `recorded`: by system, other columns; one that is no model of its own is one by this."""
    study, recorded = STUDIES[name](scale), recorded or {}
    results = MadeUpResults(study)
    for asked in benchmarks_of(study):
        groups = asked.data.average == "groups"
        for system, ws in product(dict.fromkeys((*models(study), *recorded)), study.corpus.sizes):
            accuracy = scores.get(asked.title, scores.get(f"{system} on {ws}", scores.get(system, 0.6)))
            for seed in range(seeds):
                where: dict[str, Any] = {"ws": ws, "seed": seed, "groups": groups, "units": 67 if groups else 600}
                where |= recorded.get(system, {})
                results.options(asked.title, asked.normalization, system, accuracy, spread=1e-4, **where)
    return results


def found(name: str, scores: dict[str, float], **more: Any) -> Findings:
    return find(made(name, scores, **more).evidence())


@pytest.mark.parametrize(
    ("scores", "costs", "recovers"),
    [
        ({"plain": 0.58, "shared": 0.60, "shared-lora": 0.60}, "yes", "undecided at this scale"),
        ({"plain": 0.70, "shared": 0.60, "shared-lora": 0.68}, "no", "yes"),
        ({"plain": 0.70, "shared": 0.60, "shared-lora": 0.61}, "no", "no"),
        ({"plain": 0.61, "shared": 0.60, "shared-lora": 0.60}, "undecided at this scale", None),
    ],
)
def test_sharing_is_judged_by_a_margin_of_one_point(
    scores: dict[str, float], costs: Outcome, recovers: Outcome | None
) -> None:
    findings = found("ffn-sharing", {**scores, "narrow": 0.55})
    assert outcome(findings, "equal compute") == costs and outcome(findings, "equal stored size") == "yes"
    assert recovers is None or outcome(findings, "wins back half") == recovers


def test_tied_embeddings_are_held_against_both_twins() -> None:
    findings = found("weight-tying", {"plain": 0.6, "untied": 0.7, "untied-narrow": 0.55})
    assert outcome(findings, "after as many steps") == "no" and outcome(findings, "equal stored size") == "yes"


MARGINS = [("ffn-sharing", "costs less than 1 point"), ("weight-tying", "cost less than 1 point")]
MARGINS += [("early-exit", "costs the whole model less than 1 point"), ("early-exit", "leave after half")]
MARGINS += [("byte-pooling", "less than 2 points below")]
"""Studies, and their claims of little loss."""


@pytest.mark.parametrize(("name", "claim"), MARGINS)
@pytest.mark.parametrize(
    ("score", "null", "said"), [(0.6, 0.5, "yes"), (0.5, 0.5, "not measured"), (0.6, 0.6, "not measured")]
)
def test_little_loss_is_claimed_only_of_models_above_chance_and_every_null(
    name: str, claim: str, score: float, null: float, said: Outcome
) -> None:
    """All models score alike, which is as far within the margin as can be."""
    used = {EARLY: {"layers": 0.4, "flops_share": 0.4}} if name == "early-exit" else {}
    results = made(name, {}, recorded=used)
    for row in results.rows["likelihood"]:
        units = len(row["model"])
        row["model"] = (score + 0.01 * results.generator(row["key"]).standard_normal(units)).tolist()
        row["ngram"] = [null] * units
    findings = find(results.evidence())
    about = [verdict for verdict in findings.verdicts if claim in verdict.claim]
    assert about and {verdict.outcome for verdict in about} == {said}
    assert LITTLE_LOSS in findings.notes
    assert all(("not both are above every null" in verdict.figure) == (said == "not measured") for verdict in about)


def test_the_hybrid_objective_is_held_against_as_many_tokens_and_as_many_operations() -> None:
    budgets = {name: arm.budgets for name, arm in STUDIES["objectives"]("tiny").arms.items()}
    scores = dict(zip(("causal", "hybrid", "hybrid-flops"), (0.6, 0.5, 0.7), strict=True))
    findings = found(
        "objectives", {f"plain, {arm}, {steps} steps": scores[arm] for arm in scores for steps in budgets[arm]}
    )
    assert [table.title for table in findings.tables[:2]] == ["At equal tokens", "At equal FLOPs"]
    for table, arm in zip(findings.tables, ("hybrid", "hybrid-flops"), strict=False):
        steps = [f"{each:,}" for each in (*budgets["causal"], *budgets[arm])]
        assert [row[column].text for column in (2, 3) for row in table.rows] == steps
    for steps in budgets["causal"]:
        assert outcome(findings, f"equal tokens ({steps} causal") == "no"
        assert outcome(findings, f"equal FLOPs ({steps} causal") == "yes"


def of_bytes(**scores: float) -> Findings:
    study = STUDIES["byte-pooling"]("tiny")
    names = dict(zip(study.arms, models(study), strict=True))
    return found("byte-pooling", {names[arm.replace("_", "-")]: score for arm, score in scores.items()})


@pytest.mark.parametrize(
    ("subword", "of_bytes_", "said"),
    [(0.60, 0.60, "yes"), (0.60, 0.55, "no"), (0.60, 0.58, "undecided at this scale"), (0.60, 0.50, "not measured")],
)
def test_pooled_bytes_are_equal_only_where_both_know_something(subword: float, of_bytes_: float, said: Outcome) -> None:
    findings = of_bytes(subword=subword, bytes=of_bytes_, bytes_flops=0.6)
    assert outcome(findings, "as many bytes read") == said and outcome(findings, "as many FLOPs") == "yes"


@pytest.mark.parametrize(("scale", "said"), [("tiny", "no"), ("small", "yes"), ("paper", "yes")])
def test_how_many_parameters_bytes_save_is_exact(scale: str, said: Outcome) -> None:
    (verdict, *others) = found("byte-pooling", {}, scale=scale, seeds=0).verdicts
    assert verdict.outcome == said and verdict.half_width == 0
    assert {each.outcome for each in others} == {"not measured"}


@pytest.mark.parametrize(
    ("parallel", "said"),
    [(2.5, "yes"), (1.5, "no"), (2.0, "undecided at this scale")],
    ids=["more", "fewer", "as many"],
)
def test_heads_are_held_against_each_other_by_bits_a_byte(parallel: float, said: Outcome) -> None:
    results = made("byte-head", {})
    for row in results.rows["likelihood"]:
        noise = 0.01 * results.generator(row["key"]).standard_normal()
        row["heldout_bits_per_byte"] = noise + (parallel if row["system"] == "parallel" else 2.0)
    (verdict,) = find(results.evidence()).verdicts
    assert verdict.outcome == said and verdict.unit == "bits a byte"


def test_heads_of_other_seeds_are_not_paired() -> None:
    results = made("byte-head", {})
    for row in results.rows["likelihood"]:
        row["heldout_bits_per_byte"] = 2.5 if row["system"] == "parallel" else 2.0
        row["pretrain_seed"] += 10 * (row["system"] == "parallel")
    (verdict,) = find(results.evidence()).verdicts
    assert verdict.outcome == "not measured"


@pytest.mark.parametrize(
    ("score", "layers", "said"),
    [(0.60, 0.49, "yes"), (0.60, 0.52, "undecided at this scale"), (0.55, 0.52, "no"), (0.55, 0.49, "no")],
)
def test_half_the_layers_are_judged_by_the_score_and_by_the_layers_that_were_used(
    score: float, layers: float, said: Outcome
) -> None:
    used, half = {EARLY: {"layers": layers, "flops_share": 1.25}}, 1.15 - score
    findings = found("early-exit", {"exits": 0.6, "plain": 0.7, "half": half, EARLY: score}, recorded=used)
    assert outcome(findings, "leave after half") == said
    assert outcome(findings, "A loss at every exit") == "no"
    assert outcome(findings, "a model of half the layers") == said
    assert {row[1].text: [cell.text for cell in row[3:]] for row in findings.tables[0].rows} == {
        **{name: ["100.0", "100.0"] for name in ("plain", "exits", "half")},
        EARLY: [f"{100 * layers:.1f}", "125.0"],
    }


def test_dropout_is_judged_by_the_interaction() -> None:
    few, many = STUDIES["dropout-schedule"]("tiny").corpus.sizes
    findings = found("dropout-schedule", {f"plain, early on {few}": 0.7, f"plain, constant on {many}": 0.5})
    said = {
        arm: [outcome(findings, claim, f"({arm})") for claim in ("helps", "hurts", "adds more")]
        for arm in ("early", "constant")
    }
    undecided = "undecided at this scale"
    assert said == {"early": ["yes", undecided, "yes"], "constant": [undecided, "yes", "yes"]}


def test_the_baseline_is_above_chance_or_near_it() -> None:
    findings = found("stlm-baseline", {"blimp": 0.6, "arc_easy": 0.4, "hellaswag": 0.5, "winogrande": 0.5, "mmlu": 0.6})
    said = {name: outcome(findings, f"chance on {name}") for name in ("blimp", "arc_easy", "hellaswag")}
    assert said == {"blimp": "yes", "arc_easy": "no", "hellaswag": "undecided at this scale"}
    assert outcome(findings, "of chance on mmlu") == "no" and outcome(findings, "of chance on winogrande") != "no"
    assert {row[-1].text for row in findings.tables[0].rows if row[0].text in ("blimp", "arc_easy")} == {"yes", "no"}


def test_what_the_baseline_knows_is_drawn_beside_chance() -> None:
    """Where nothing differs is 0, and a score alone is far from it."""
    findings = found("stlm-baseline", {"blimp": 0.6, "arc_easy": 0.4, "hellaswag": 0.5, "winogrande": 0.5, "mmlu": 0.6})
    rests_on = [verdict.estimate for verdict in findings.verdicts]
    assert [round(each.value, 1) for each in rests_on if each] == [0.1, -0.1, 0.0, 0.0, 0.1]


def test_published_figures_stand_beside_those_of_the_papers_scale_alone() -> None:
    for scale, known in (("tiny", {"n/a"}), ("paper", {"78 %", "30 %", "39 %", "50 %", "24 %"})):
        assert {verdict.paper for verdict in found("stlm-baseline", {}, scale=scale).verdicts} == known


NAMES = ["stlm-baseline", "ffn-sharing", "weight-tying", "early-exit", "objectives", "dropout-schedule"]


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_decides_nothing_and_nothing_measured_breaks_nothing(name: str) -> None:
    recorded = {EARLY: {"layers": 0.5, "flops_share": 0.5}} if name == "early-exit" else {}
    findings = found(name, {"plain": 0.9}, seeds=1, recorded=recorded)
    assert {verdict.outcome for verdict in findings.verdicts} == {"undecided at this scale"}
    assert {verdict.outcome for verdict in found(name, {}, seeds=0).verdicts} == {"not measured"}


def test_scores_are_packed_and_found_in_again() -> None:
    results = made("ffn-sharing", {"plain": 0.7})
    once, schema = results.tables(), SCHEMAS["likelihood"]
    found = (
        unpacked(once).sql(f"select {', '.join(schema.names)} {PACKING['likelihood']}").to_arrow_table().cast(schema)
    )
    assert found.equals(once["likelihood"].sort_by("key"))
    again = {**once, "likelihood": found}
    findings = [find(Evidence(unpacked(tables), results.study)).verdicts for tables in (once, again)]
    assert findings[0] == findings[1]


@pytest.mark.parametrize("lost", [[0.5], None, [0.5] * 66 + [None]])
def test_what_is_published_with_a_score_missing_is_refused(lost: list[float | None] | None, tmp_path: Path) -> None:
    results = made("ffn-sharing", {})
    results.rows["likelihood"][1]["ngram"] = lost
    about = {"study": results.study.model_dump_json(), **dict.fromkeys(STUDY_SCHEMA.names[1:], "")}
    place = tmp_path / "ffn-sharing-tiny"
    save_packed({**results.tables(), STUDY: pa.Table.from_pylist([about], STUDY_SCHEMA)}, place)
    with pytest.raises(UserError, match="67 units of likelihood/blimp.* numbers of ngram"):
        load(place)
