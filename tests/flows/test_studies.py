"""The named studies at every scale: valid, planned without a network, the paper's protocol at the paper's scale."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from golden import plan_anywhere

from flows.loading import load_study
from flows.reporting import command_of
from flows.studies import STUDIES
from flows.studies.scales import SCALES
from flows.studies.stlm import SIZES
from tlm.errors import UserError
from tlm.modeling.cost import parameter_counts, pretraining_flops
from tlm.planning.plan import Plan, plan
from tlm.planning.registries import check_registries
from tlm.results import ANALYSES
from tlm.study.adapt import with_precision
from tlm.study.architecture import VARIANTS
from tlm.study.config import StudyConfig
from tlm.study.sources import WikipediaSource

SCALED = [name for name, study in STUDIES.items() if study.scaled]
UNSCALED = [name for name, study in STUDIES.items() if not study.scaled]
CLASSIFY = [name for name in SCALED if STUDIES[name]().tasks]
"""The studies of the first paper and of its open questions; others score options by likelihood."""
TRAINING = ("pretrain", "finetune")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise AssertionError("nothing may be looked up")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def planned(name: str, tmp_path: Path, **options: Any) -> Plan:
    """A plan that needs no file: everything is on the Hub, pinned by its revision, but for benchmarks."""
    study = load_study(name, origin="hub", **options)
    return plan_anywhere(study) if not study.tasks else plan(study, str(tmp_path / "no data"))


def keys(plan: Plan, *stages: str) -> set[str]:
    return {step.key for step in plan.steps if step.stage in stages}


# --- names, scales, origins ---


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", SCALED)
def test_a_study_is_valid_at_each_scale_and_its_analysis_bears_its_name(name: str, scale: str) -> None:
    study = STUDIES[name](scale)
    assert (study.name, study.analysis, study.scale) == (name, name, scale)
    assert study.title
    check_registries(study)
    assert StudyConfig.model_validate_json(study.model_dump_json()) == study


def test_every_analysis_has_a_study() -> None:
    assert set(SCALED) == set(ANALYSES)


@pytest.mark.parametrize("name", CLASSIFY)
def test_all_studies_of_a_scale_are_trained_alike(name: str) -> None:
    shared = ("tokenizer", "max_length", "pretrain", "finetune")
    for scale in SCALES:
        study, sweep = STUDIES[name](scale), STUDIES["ws-sweep"](scale)
        if name == "decoder-committee":  # at tiny decoders need fewer steps, and they have no bias on their logits
            assert study.pretrain.steps == (SCALES[scale].causal_steps or sweep.pretrain.steps)
            own = {"steps": sweep.pretrain.steps, "output_bias": sweep.pretrain.output_bias}
            study = study.model_copy(update={"pretrain": study.pretrain.model_copy(update=own)})
        assert all(getattr(study, field) == getattr(sweep, field) for field in shared)
        assert study.pretrain_seeds[: len(sweep.pretrain_seeds)] == sweep.pretrain_seeds, "a study may add to them"
        assert study.corpus.model_copy(update={"sizes": ()}) == sweep.corpus.model_copy(update={"sizes": ()})


def test_the_default_scale_is_tiny() -> None:
    assert load_study("committee") == load_study("committee", scale="tiny") != load_study("committee", scale="small")


def test_an_unknown_scale_or_origin_is_an_error_that_names_the_choices() -> None:
    with pytest.raises(UserError, match=r"Unknown scale 'huge'\. Choose from tiny, small, paper\."):
        load_study("ws-sweep", scale="huge")
    with pytest.raises(UserError, match=r"Unknown origin 'disk'\. Choose from local, hub\."):
        load_study("ws-sweep", origin="disk")


@pytest.mark.parametrize("option", ["scale", "origin"])
@pytest.mark.parametrize("name", UNSCALED)
def test_an_introductory_study_has_one_scale(name: str, option: str) -> None:
    with pytest.raises(UserError, match=f"{name} exists at one scale only"):
        load_study(name, **{option: {"scale": "tiny", "origin": "hub"}[option]})  # type: ignore[arg-type]


def test_a_study_file_has_neither_scale_nor_origin(tmp_path: Path) -> None:
    for option in ({"scale": "tiny"}, {"origin": "hub"}):
        with pytest.raises(UserError, match="is no named study: it has no --scale or --origin"):
            load_study(str(tmp_path / "mine.yaml"), **option)


# --- the paper's scale ---


def test_the_papers_scale_is_the_papers_training() -> None:
    study = STUDIES["ws-sweep"]("paper")
    assert study.max_length == 128 and study.tokenizer.kind == "hub"
    for training in (study.pretrain, study.finetune):
        assert training.epochs == 50
        assert (training.learning_rate, training.weight_decay, training.batch_size) == (5e-5, 0.01, 32)
        assert (training.warmup_share, training.max_grad_norm, training.max_steps) == (0.0, None, None)
    assert study.pretrain.mlm_probability == 0.15
    for name in CLASSIFY:
        made = STUDIES[name]("paper")
        assert made.learning_rates == made.finetune_learning_rates == {}, "one rate for all"


def test_the_papers_scale_reaches_the_papers_ws_on_wikipedia() -> None:
    corpus = STUDIES["ws-sweep"]("paper").corpus
    assert (corpus.sizes[0], corpus.sizes[-1], corpus.sampler) == (0, 90_000, "random")
    assert isinstance(corpus.source, WikipediaSource)
    assert STUDIES["committee"]("paper").corpus.sizes == (90_000,)


def test_the_papers_scale_has_the_papers_items() -> None:
    items = {task.name: (task.train_per_label, task.test_per_label) for task in STUDIES["ws-sweep"]("paper").tasks}
    assert items == {"fewrel": (630, 70), "agnews": (1_000, 1_000), "dbpedia": (100, 100)}
    assert all(task.labels is None for task in STUDIES["ws-sweep"]("paper").tasks), "every label"


def test_the_papers_scale_has_the_papers_six_architectures() -> None:
    found = {
        a.name: (a.num_hidden_layers, a.hidden_size, a.num_attention_heads, a.conv_kernel_sizes, a.conv_channels)
        for a in STUDIES["committee"]("paper").architectures
    }
    three, sixteen = (3, 3), (16, 3)
    assert found == {
        "bert6": (6, 768, 12, (), 0),
        "bert1a": (1, 1536, 24, (), 0),
        "bert1b": (1, 768, 12, (three, three), 64),
        "bert1c": (1, 512, 8, (three, three), 64),
        "bert1d": (1, 768, 12, (three, three, three), 32),
        "bert1e": (1, 768, 12, (sixteen, sixteen), 64),
    }
    for arch in STUDIES["committee"]("paper").architectures:
        assert arch.intermediate_size == 4 * arch.hidden_size
        assert arch.hidden_dropout_prob == arch.attention_probs_dropout_prob == 0.1


@pytest.mark.parametrize("scale", SCALES)
def test_narrower_variants_keep_the_papers_layers_and_kernels(scale: str) -> None:
    papers, ours = (STUDIES["committee"](name).architectures for name in ("paper", scale))
    for paper, our in zip(papers, ours, strict=True):
        for field in ("name", "kind", "num_hidden_layers", "conv_kernel_sizes"):
            assert getattr(our, field) == getattr(paper, field)
        assert (
            our.hidden_size * paper.num_attention_heads * SCALES["paper"].head_size
            == paper.hidden_size * our.num_attention_heads * SCALES[scale].head_size
        )


# --- plans ---


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", SCALED)
def test_on_the_hub_a_study_is_planned_without_data_and_without_a_network(
    name: str, scale: str, tmp_path: Path, no_network: None
) -> None:
    steps = planned(name, tmp_path, scale=scale).steps
    read = [step.access["source"] for step in steps if step.stage == "source"]
    assert {source["origin"] for source in read if source["kind"] != "docstrings"} == {"hub"}
    measured = {"finetune", "overlap"} if name in CLASSIFY else {"likelihood"}
    assert {"pretrain", "report"} | measured <= {step.stage for step in steps}
    assert list(tmp_path.iterdir()) == []


def test_at_home_a_study_names_the_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"few_rel/val_wiki\.json.*TLM_DATA_ROOT"):
        plan(load_study("decoder-committee", origin="local"), str(tmp_path))


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("name", [name for name in CLASSIFY if name != "recipe"])  # whose arms have rates of their own
def test_an_architecture_trains_at_its_own_rate_or_at_the_shared_one(name: str, stage: str, tmp_path: Path) -> None:
    study, scale = STUDIES[name]("tiny", "hub"), SCALES["tiny"]
    own = {"pretrain": scale.pretrain_rates, "finetune": scale.finetune_rates}[stage]
    shared = getattr(study, stage).learning_rate
    rates = {
        (step.labels["arch"], step.config[stage]["learning_rate"])
        for step in plan(study, str(tmp_path)).steps
        if step.stage == stage
    }
    assert own.keys() <= VARIANTS.keys(), "a name that is none would be passed over"
    assert rates == {(arch.name, own.get(arch.name, shared)) for arch in study.architectures}


@pytest.mark.parametrize("scale", SCALES)
def test_the_overlap_predictor_adds_no_training_to_the_studies_it_looks_at(scale: str, tmp_path: Path) -> None:
    predictor = planned("overlap-predictor", tmp_path, scale=scale)
    for name in ("missing-tokens", "custom-corpus", "irrelevant-tokens"):
        other = planned(name, tmp_path, scale=scale)
        assert keys(other, "pretrain") and keys(other, *TRAINING) <= keys(predictor, *TRAINING), name
    sweep = keys(planned("ws-sweep", tmp_path, scale=scale), "pretrain")
    assert sweep & keys(predictor, "pretrain") and sweep - keys(predictor, "pretrain"), "bert1 is shared, bert6 is not"


def test_the_second_draw_adds_nothing_to_the_sweep_but_fine_tunings_on_items_of_its_own(tmp_path: Path) -> None:
    second, sweep = (planned(name, tmp_path, scale="tiny") for name in ("second-draw", "ws-sweep"))
    added = [step for step in second.steps if step.stage in TRAINING and step.key not in keys(sweep, *TRAINING)]
    assert added and all(step.stage == "finetune" for step in added)
    assert {str(step.labels["task"]) for step in added} == {f"{task.name}-second" for task in sweep.study.tasks}
    seeds = {task.seed for name in CLASSIFY if name != "second-draw" for task in STUDIES[name]("tiny").tasks}
    assert not seeds & {task.seed for task in second.study.tasks if task.name.endswith("-second")}


@pytest.mark.parametrize("scale", SCALES)
def test_students_are_all_that_distillation_trains_beyond_the_committees_study(scale: str, tmp_path: Path) -> None:
    students, committee = (planned(name, tmp_path, scale=scale) for name in ("committee-distillation", "committee"))
    added = [step for step in students.steps if step.key not in keys(committee, *TRAINING, "corpus", "committee")]
    assert {step.labels["arch"] for step in added if step.stage in TRAINING} == {"bert1a"}
    taught = [step for step in added if "teacher" in step.inputs]
    assert len(taught) == 9 * len(students.study.tasks) == sum(step.stage in TRAINING for step in added)
    assert keys(students, "committee") < keys(committee, "committee")


@pytest.mark.parametrize("scale", SCALES)
def test_compression_trains_nothing_that_the_sweep_does_not_but_further_seeds(scale: str, tmp_path: Path) -> None:
    compressed, sweep = (planned(name, tmp_path, scale=scale) for name in ("compression", "ws-sweep"))
    new = [step for step in compressed.steps if step.stage in TRAINING and step.key not in keys(sweep, *TRAINING)]
    seeds = {step.labels.get("finetune_seed", step.labels.get("pretrain_seed")) for step in new}
    assert not seeds & {*sweep.study.pretrain_seeds}
    assert keys(compressed, *TRAINING) & keys(sweep, *TRAINING)
    assert len(keys(compressed, "compress")) == 5 * 3 * len(compressed.study.pretrain_seeds), "on three tasks"


@pytest.mark.parametrize("name", SCALED)
def test_a_limit_stops_every_training_and_its_artifacts_are_its_own(name: str, tmp_path: Path) -> None:
    limited = load_study(name, limit_steps=2)
    assert limited.pretrain.max_steps == limited.finetune.max_steps == 2
    changed = {"pretrain", "finetune"}
    assert limited.model_dump(exclude=changed) == load_study(name).model_dump(exclude=changed)
    before, after = planned(name, tmp_path), planned(name, tmp_path, limit_steps=2)
    for stage in TRAINING if name in CLASSIFY else ("pretrain", "likelihood"):
        assert len(keys(before, stage)) == len(keys(after, stage)) > 0
        assert not keys(before, stage) & keys(after, stage)
    assert keys(before, "corpus", "task", "overlap") == keys(after, "corpus", "task", "overlap")


@pytest.mark.parametrize("scale", SCALES)
def test_studies_of_super_tiny_models_share_the_model_that_nothing_is_changed_of(scale: str, tmp_path: Path) -> None:
    names = [name for name in SCALED if "plain" in STUDIES[name]().architecture_of and name != "dropout-schedule"]
    plans = [planned(name, tmp_path, scale=scale) for name in names]
    shared = set.intersection(*(keys(each, "pretrain", "likelihood") for each in plans))
    assert len(plans) > 3 and len(shared) == 2 * len(SCALES[scale].seeds), "on BLiMP"


@pytest.mark.parametrize("scale", SCALES)
def test_objectives_are_set_beside_each_other_after_as_many_operations(scale: str) -> None:
    arms = STUDIES["objectives"](scale).arms
    studies = {(name, steps): own for name, steps, own in STUDIES["objectives"](scale).in_arms()}
    size = SIZES[scale].vocab_size or SCALES[scale].vocab_size or 30_522

    def operations(name: str, steps: int) -> float:
        own = studies[name, steps]
        return steps * pretraining_flops(own.architectures[0], own.pretrain, own.max_length, size)

    assert arms["hybrid"].budgets == arms["causal"].budgets and len(arms["causal"].budgets) == 2
    for causal, hybrid in zip(arms["causal"].budgets, arms["hybrid-flops"].budgets, strict=True):
        assert operations("hybrid-flops", hybrid) == pytest.approx(operations("causal", causal), rel=0.005)
        assert operations("hybrid", causal) < operations("causal", causal)


@pytest.mark.parametrize("scale", SCALES)
def test_what_is_set_beside_each_other_stores_as_much(scale: str) -> None:
    for name, one, other in (("ffn-sharing", "shared", "narrow"), ("weight-tying", "plain", "untied-narrow")):
        study = STUDIES[name](scale)
        size = SIZES[scale].vocab_size or SCALES[scale].vocab_size or 30_522
        stored = [
            parameter_counts(study.architecture_of[each], vocab_size=size, max_position_embeddings=8).stored
            for each in (one, other)
        ]
        assert stored[0] == pytest.approx(stored[1], rel=1e-3), name


def test_the_command_of_a_recorded_study_is_the_one_that_makes_it() -> None:
    for made, command in (
        (STUDIES["ws-sweep"]("tiny"), "tlm run ws-sweep --scale tiny"),
        (STUDIES["ws-sweep"]("paper", "local"), "tlm run ws-sweep --scale paper --origin local"),
        (STUDIES["demo"](), "tlm run demo"),
    ):
        assert command_of(made) == command
        assert command_of(with_precision(made, "bfloat16")) == command
    changed = load_study("ws-sweep", ["pretrain.steps=7"], scale="tiny")
    assert command_of(changed) is None
    assert command_of(changed.model_copy(update={"name": "mine"})) == "tlm run mine.yaml"


@pytest.mark.parametrize("name", ["demo", "ws-sweep"])
def test_a_named_study_at_a_scale_that_it_has_not_is_a_changed_one(name: str) -> None:
    assert command_of(load_study(name, ["scale=mine"])) is None
