"""Treatments in a study: what a study file may ask for, how each is wired, and which registries they point into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import mini_study, mini_tree, only
from pydantic import ValidationError

from tlm.artifacts.step import Step
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.planning.preflight import check
from tlm.planning.registries import check_registries
from tlm.study.config import StudyConfig
from tlm.study.treatments import Foreign, MissingTokens, Sampled, Shuffled

Tree = dict[str, Any]
FILES: Tree = {"kind": "files", "format": "csv", "path": "task.csv", "label_column": "label"}
MISSING: Tree = {"kind": "missing_tokens", "task": "topics", "ws": 120, "count": 3}
SAMPLED: Tree = {"kind": "sampled", "task": "topics", "ws": 50, "sampler": "coverage"}
AIMED: Tree = {"kind": "sampled", "task": "topics", "ws": 70, "sampler": "irrelevant", "level": 0.5}
SHUFFLED: Tree = {"kind": "shuffled", "ws": 60, "scope": "sentence"}
FOREIGN: Tree = {"kind": "foreign", "name": "other", "source": FILES, "own": 20, "general": 60}
EVERY = [MISSING, SAMPLED, AIMED, SHUFFLED, FOREIGN]
KINDS = {treatment["kind"]: treatment for treatment in EVERY}


def study(*treatments: Tree, **changes: Any) -> StudyConfig:
    """The miniature study, with a second task on the same items."""
    topics = mini_tree()["tasks"][0]
    tasks = [topics, {**topics, "name": "other", "train_per_label": 13}]
    return mini_study(tasks=tasks, treatments=list(treatments), committees=[], **changes)


def refused(fragment: str, *treatments: Tree) -> None:
    with pytest.raises(ValidationError, match=fragment):
        study(*treatments)


# --- what may be asked for ---


def test_every_kind_of_treatment_is_part_of_a_study_and_survives_a_round_trip() -> None:
    made = study(*EVERY)
    assert [type(t) for t in made.treatments] == [MissingTokens, Sampled, Sampled, Shuffled, Foreign]
    assert StudyConfig.model_validate_json(made.model_dump_json()) == made


def test_labels_say_what_was_done() -> None:
    labels = [treatment.label for treatment in study(*EVERY, {**SHUFFLED, "scope": "corpus"}).treatments]
    assert labels == [
        "random-unk-3",
        "coverage",
        "irrelevant-0.5",
        "shuffled-sentence",
        "other",
        "shuffled-corpus",
    ]


def test_a_mixture_is_as_large_as_its_two_parts() -> None:
    (mixture, alone) = study(FOREIGN, {**FOREIGN, "name": "alone", "general": 0}).treatments
    assert (mixture.ws, alone.ws) == (80, 20)


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_another_kind_is_an_error_that_names_it(kind: str) -> None:
    refused(r"colour\n  Extra inputs are not permitted", {**KINDS[kind], "colour": "red"})


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones() -> None:
    refused("'missing_tokens', 'sampled', 'shuffled', 'foreign'", {"kind": "burnt", "ws": 60})


@pytest.mark.parametrize(
    ("treatment", "field"),
    [
        ({**MISSING, "ws": 0}, "ws"),
        ({**SAMPLED, "ws": 0}, "ws"),
        ({**SHUFFLED, "ws": -1}, "ws"),
        ({**FOREIGN, "own": 0}, "own"),
        ({**FOREIGN, "general": -1}, "general"),
        ({**AIMED, "level": 1.5}, "level"),
        ({**SHUFFLED, "scope": "letter"}, "scope"),
        ({**FOREIGN, "name": "Not A Name"}, "name"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_field(treatment: Tree, field: str) -> None:
    refused(rf"treatments\.0\.{treatment['kind']}\.{field}", treatment)


@pytest.mark.parametrize("treatment", [MISSING, SHUFFLED])
def test_what_changes_a_plain_set_needs_one_of_that_size(treatment: Tree) -> None:
    refused(r"treatments\.ws: unknown \[70\]; choose from \[60, 120\]", {**treatment, "ws": 70})


def test_what_is_a_set_of_its_own_may_have_any_size() -> None:
    assert [t.ws for t in study(SAMPLED, FOREIGN).treatments] == [50, 80]


@pytest.mark.parametrize("treatment", [MISSING, SAMPLED])
def test_a_treatment_is_about_a_task_of_the_study(treatment: Tree) -> None:
    refused(r"treatments\.task: unknown \['sports'\]; choose from", {**treatment, "task": "sports"})


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_treatment_twice_is_an_error(kind: str) -> None:
    refused("treatments: .* appears more than once", KINDS[kind], KINDS[kind])


def test_treatments_that_would_bear_the_same_name_are_an_error() -> None:
    namesake = {**FOREIGN, "name": "shuffled-sentence", "own": 20, "general": 40}
    refused("treatments: .* appears more than once", SHUFFLED, namesake)
    assert len(study(MISSING, {**MISSING, "seed": 1}).treatments) == 2
    assert len(study(SAMPLED, {**SAMPLED, "task": "other"}).treatments) == 2


def test_one_label_does_not_stand_for_two_things_at_one_ws() -> None:
    sampled: Tree = {"kind": "sampled", "task": "topics", "ws": 80, "sampler": "coverage"}
    refused("name two different things", sampled, {**FOREIGN, "name": "coverage"})


def test_an_amount_is_a_share_or_a_count() -> None:
    refused("either count or share", {**MISSING, "share": 0.5})
    refused("either count or share", {**MISSING, "count": None})
    assert study({**MISSING, "count": None, "share": 0.5}).treatments[0].label == "random-unk-50pct"


# --- registries, and sources that are too small ---


@pytest.mark.parametrize(
    ("treatment", "message"),
    [
        ({**SAMPLED, "sampler": "best"}, r"treatments\.sampler: unknown 'best'\. Choose from \['bm25', 'coverage'"),
        ({**SAMPLED, "sampler": "random"}, "sampler 'random' takes no task"),
        ({**AIMED, "level": None}, "sampler 'irrelevant' needs a level"),
        ({**SAMPLED, "level": 0.5}, "sampler 'coverage' takes no level"),
        ({**MISSING, "selection": "best"}, r"treatments\.selection: unknown 'best'"),
        ({**MISSING, "removal": "burn"}, r"treatments\.removal: unknown 'burn'"),
    ],
)
def test_a_name_or_a_need_that_no_registry_meets_is_an_error(treatment: Tree, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_registries(study(treatment))


def test_a_studys_own_sampler_cannot_choose_by_a_task() -> None:
    with pytest.raises(UserError, match=r"'coverage' chooses by a task.* kind: sampled"):
        check_registries(study(corpus__sampler="coverage"))


Checked = Callable[..., Plan]


@pytest.fixture
def checked(tmp_path: Path, mini_data: Path) -> Checked:
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), device="cpu")
    return lambda *treatments: check(study(*treatments), runtime)


def test_every_kind_of_treatment_passes_the_check(checked: Checked) -> None:
    assert {"inject", "shuffle", "mix"} <= {step.stage for step in checked(*EVERY).steps}


def test_a_foreign_source_that_is_too_small_is_refused_before_any_work(checked: Checked, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"treatments\.other: own=61, but its source has 60 paragraphs\. .*up to 60"):
        checked({**FOREIGN, "own": 61})
    assert not list(tmp_path.glob("home/**/*"))
    assert checked({**FOREIGN, "own": 60})


@pytest.mark.parametrize("treatment", [{**SAMPLED, "ws": 181}, {**FOREIGN, "general": 181}])
def test_a_treatment_larger_than_the_studys_own_source_is_refused(treatment: Tree, checked: Checked) -> None:
    with pytest.raises(UserError, match=r"Ws=181 and heldout=20 need 201 paragraphs; the source has 200"):
        checked(treatment)


# --- seeds ---


def test_paired_seeds_are_as_many_of_one_as_of_the_other() -> None:
    with pytest.raises(ValidationError, match="paired, but there are 2 pretrain_seeds and 3 finetune_seeds"):
        study(seeds="paired", pretrain_seeds=[0, 1], finetune_seeds=[0, 1, 2])


def test_paired_seeds_tune_the_ith_pretraining_with_the_ith_seed_and_scratch_with_all(mini_data: Path) -> None:
    seeds: Tree = {"pretrain_seeds": [5, 3], "finetune_seeds": [7, 8]}
    paired, crossed = (plan(mini_study(seeds=how, **seeds), str(mini_data)) for how in ("paired", "crossed"))
    found: dict[Any, set[tuple[Any, Any]]] = {"pretrained": set(), "scratch": set()}
    for step in paired.steps:
        if step.stage == "finetune":
            found[step.labels["init"]].add((step.labels.get("pretrain_seed"), step.labels["finetune_seed"]))
    assert found == {"pretrained": {(5, 7), (3, 8)}, "scratch": {(None, 7), (None, 8)}}
    # Five pre-trained pairs of set and architecture and two architectures from scratch, each with two seeds.
    assert len(steps(paired, "finetune")) == 2 * 5 + 2 * 2
    assert len(steps(crossed, "finetune")) == 4 * 5 + 2 * 2
    assert {s.key for s in steps(paired, "finetune")} < {s.key for s in steps(crossed, "finetune")}


@pytest.mark.parametrize("how", ["paired", "crossed"])
def test_further_scratch_seeds_are_fine_tunings_from_scratch_and_no_members(how: str, mini_data: Path) -> None:
    seeds: Tree = {"seeds": how, "pretrain_seeds": [0, 1], "finetune_seeds": [0, 1]}
    without, more = (
        plan(mini_study(**seeds, **further), str(mini_data)) for further in ({}, {"further_scratch_seeds": [7, 9]})
    )
    added = [step for step in more.steps if step.key not in by_key(without)]
    assert {(s.stage, s.labels.get("init"), s.labels.get("finetune_seed")) for s in added if s.stage != "report"} == {
        ("finetune", "scratch", 7),
        ("finetune", "scratch", 9),
    }


def test_a_committee_of_paired_seeds_holds_each_pretraining_once(mini_data: Path) -> None:
    planned = plan(mini_study(seeds="paired", pretrain_seeds=[0, 1], finetune_seeds=[0, 1]), str(mini_data))
    of = by_key(planned)
    members = [of[key].labels for key in only(planned, "committee", ws=120).input_keys.values()]
    assert [(m["arch"], m["pretrain_seed"], m["finetune_seed"]) for m in members] == [
        ("one", 0, 0),
        ("conv", 0, 0),
        ("one", 1, 1),
        ("conv", 1, 1),
    ]


# --- the graph ---


def steps(planned: Plan, stage: str, **labels: Any) -> list[Step]:
    return [s for s in planned.steps if s.stage == stage and all(s.labels.get(n) == v for n, v in labels.items())]


def by_key(planned: Plan) -> dict[str, Step]:
    return {step.key: step for step in planned.steps}


@pytest.fixture
def wired(mini_data: Path) -> Plan:
    return plan(study(*EVERY), str(mini_data))


def test_a_sampled_set_is_made_from_its_task_and_a_plain_one_is_not(wired: Plan) -> None:
    of = by_key(wired)
    chosen = only(wired, "corpus", treatment="coverage")
    assert set(chosen.inputs) == {"tokens", "task", "task_tokens", "tokenizer"}
    assert of[chosen.inputs["task"].key].labels["task"] == "topics"
    assert chosen.config == {"ws": 50, "heldout": 20, "sampler": "coverage", "seed": 0}
    assert only(wired, "corpus", treatment="irrelevant-0.5").config["level"] == 0.5
    plain = steps(wired, "corpus", treatment=None)
    assert {s.labels["ws"] for s in plain} == {60, 120}
    assert all(set(s.inputs) == {"tokens"} and s.config["sampler"] == "random" for s in plain)


def test_a_mixture_shares_source_heldout_and_seed_with_the_plain_sets(wired: Plan) -> None:
    mixture, plain = only(wired, "mix"), steps(wired, "corpus", treatment=None)[0]
    assert mixture.inputs["tokens"] == plain.inputs["tokens"] != mixture.inputs["foreign"]
    assert {name: mixture.config[name] for name in ("heldout", "seed")} == {
        name: plain.config[name] for name in ("heldout", "seed")
    }
    assert (mixture.config["own"], mixture.config["general"], mixture.labels["ws"]) == (20, 60, 80)


def test_a_shuffled_and_an_injected_set_are_made_from_the_plain_one_of_their_size(wired: Plan) -> None:
    assert only(wired, "shuffle").inputs["corpus"] == only(wired, "corpus", ws=60, treatment=None).ref
    assert only(wired, "inject").inputs["corpus"] == only(wired, "corpus", ws=120, treatment=None).ref


@pytest.mark.parametrize("stage", ["overlap", "finetune"])
def test_a_treatment_about_a_task_is_measured_on_that_task_alone(stage: str, wired: Plan) -> None:
    measured: dict[Any, set[Any]] = {}
    for step in steps(wired, stage):
        measured.setdefault(step.labels["treatment"], set()).add(step.labels["task"])
    both = {"topics", "other"}
    assert measured == {
        None: both,
        "random-unk-3": {"topics"},
        "coverage": {"topics"},
        "irrelevant-0.5": {"topics"},
        "shuffled-sentence": both,
        "other": both,
    }


def test_near_duplicates_are_looked_for_in_the_largest_plain_set_and_in_every_foreign_one(wired: Plan) -> None:
    looked = {(s.labels["ws"], s.labels["treatment"], s.labels["task"]) for s in steps(wired, "duplicates")}
    assert looked == {(ws, name, task) for ws, name in ((120, None), (80, "other")) for task in ("topics", "other")}
    assert {s.config["ngram"] for s in steps(wired, "duplicates")} == {13}


def test_treated_sets_are_for_the_chosen_architectures_alone(wired: Plan) -> None:
    assert {s.labels["arch"] for s in steps(wired, "pretrain") if s.labels["treatment"]} == {"one"}
    assert {s.labels["arch"] for s in steps(wired, "pretrain", treatment=None)} == {"one", "conv"}


def test_two_treatments_never_share_a_folder(wired: Plan) -> None:
    slugs = [(s.stage, s.slug) for s in wired.steps]
    assert len(set(slugs)) == len(slugs)


def test_an_architecture_may_be_pretrained_on_some_of_the_sizes(mini_data: Path) -> None:
    """It costs what it is trained on, in committees too, and no key of the others changes."""
    changes: Tree = {"svd_arm": True, "treatment_architectures": ["one"]}
    whole, fewer = (
        plan(mini_study(**changes, **sizes), str(mini_data)) for sizes in ({}, {"architecture_sizes": {"conv": [120]}})
    )
    gone = [step for step in whole.steps if step.key not in by_key(fewer) and step.stage != "report"]
    assert {step.key for step in fewer.steps} - {step.key for step in whole.steps} == {fewer.report.key}
    assert {(step.stage, step.labels["ws"], step.labels.get("arch", "conv")) for step in gone} == {
        ("pretrain", 60, "conv"),
        ("finetune", 60, "conv"),
        ("committee", 60, "conv"),
    }
