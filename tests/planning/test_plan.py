"""The plan: a changed field re-runs exactly the stages below it, and nothing that merely runs a study has a key."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import mini_study, mini_tree, only, python, write_mini_data

from tlm.errors import UserError
from tlm.planning.plan import Plan, plan
from tlm.stages import STAGES
from tlm.study.config import StudyConfig

BELOW_FINETUNE = {"committee", "latency", "report"}
BELOW_TOKENS = {"tokens", "corpus", "overlap", "duplicates", "inject", "pretrain", "finetune"} | BELOW_FINETUNE
BELOW_CORPUS = BELOW_TOKENS - {"tokens"}


WIDTH = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
DECODER: dict[str, Any] = {"tasks": [], "treatments": [], "treatment_architectures": None, "committees": []}
"""What of the miniature study needs an encoder is left out."""
EVERY_TREATMENT: list[dict[str, Any]] = [
    {"kind": "missing_tokens", "task": "topics", "ws": 120, "count": 3},
    {"kind": "sampled", "task": "topics", "ws": 60, "sampler": "coverage"},
    {"kind": "shuffled", "ws": 120, "scope": "sentence"},
    {"kind": "foreign", "name": "other", "source": mini_tree()["tasks"][0]["source"], "own": 20, "general": 40},
]


def keys(planned: Plan, *stages: str) -> set[str]:
    return {step.key for step in planned.steps if not stages or step.stage in stages}


def changed_stages(before: Plan, after: Plan) -> set[str]:
    """Stages of which a step is new."""
    return {step.stage for step in after.steps if step.key not in keys(before)}


def make(root: Path, **changes: Any) -> Plan:
    return plan(mini_study(**changes), str(root))


# --- shape ---


def test_every_step_comes_after_its_inputs_and_the_report_is_last(mini_plan: Plan) -> None:
    seen: set[str] = set()
    for step in mini_plan.steps:
        assert set(step.input_keys.values()) <= seen
        assert step.key not in seen
        seen.add(step.key)
    assert mini_plan.report.stage == "report"
    assert set(mini_plan.report.input_keys.values()) == seen - {mini_plan.report.key}


def test_every_stage_is_in_a_study_with_every_treatment_and_evaluation(mini_data: Path) -> None:
    asked = {"kind": "likelihood", "data": {"kind": "files", "path": "corpus.csv"}}
    taught = {"teacher": "pair", "students": ["one"]}
    merged = {"distillation": taught, "soups": ["one"], "finetune_seeds": [0, 1]}
    smaller = {"kind": "compression", "method": "int8"}
    planned = make(mini_data, treatments=EVERY_TREATMENT, svd_arm=True, evaluations=[asked, smaller], **merged)
    exiting = {"name": "deep", "kind": "llama", "num_hidden_layers": 2, "options": {"exits": [1]}, **WIDTH}
    early = make(
        mini_data, architectures=[exiting], evaluations=[asked, {"kind": "early_exit", "layers": 0.5}], **DECODER
    )
    assert {step.stage for step in (*planned.steps, *early.steps)} == set(STAGES)


def test_names_and_seeds_of_any_length_make_names_of_folders_that_differ(mini_data: Path) -> None:
    def long(name: str) -> str:
        return name * (60 // len(name))

    task = {**mini_tree()["tasks"][0], "name": long("task")}
    one = {**mini_tree()["architectures"][0], "name": long("arch")}
    foreign = {"kind": "foreign", "name": long("text"), "own": 20, "source": mini_tree()["corpus"]["source"]}
    seeds = [2**63 - 1, 2**63 - 2]
    changes = {
        "tasks": [task],
        "architectures": [one],
        "treatments": [foreign],
        "committees": [],
        "treatment_architectures": None,
    }
    steps = make(mini_data, **changes, pretrain_seeds=seeds, finetune_seeds=seeds).steps
    assert len({f"{step.stage}/{step.slug}" for step in steps}) == len(steps)
    assert max(len(str(step.ref).partition("/")[2]) for step in steps) <= 255


def test_the_number_of_steps_is_that_of_the_study(mini_plan: Plan) -> None:
    numbers = {stage: sum(step.stage == stage for step in mini_plan.steps) for stage in STAGES}
    assert numbers == {
        "source": 2,  # corpus and task
        "tokenizer": 1,
        "tokens": 2,
        "corpus": 2,  # two sizes above zero
        "task": 1,
        "inject": 1,
        "duplicates": 1,  # of the larger size
        "shuffle": 0,
        "mix": 0,
        "overlap": 3,  # two sizes and the injected one
        "ppmi_svd": 0,
        "pretrain": 2 * 2 + 1,  # sizes × architectures, and one architecture on the injected corpus
        "finetune": 2 * 2 + 2 + 1,  # and both from scratch
        "teacher": 0,
        "soup": 0,
        "committee": 3,  # for each Ws, scratch included
        "latency": 2,  # of each architecture
        "baseline": 2,
        **dict.fromkeys(
            (
                "compress",
                "compress_pretrained",
                "benchmark",
                "contained",
                "ngram_scores",
                "untrained_scores",
                "option_scores",
                "likelihood",
                "exit_sweep",
                "exit_scores",
            ),
            0,
        ),
        "report": 1,
    }


def test_without_latency_nothing_is_timed_and_the_rest_is_the_same(mini_data: Path) -> None:
    with_it, without = (make(mini_data, latency=asked).steps for asked in (True, False))
    rest = {step.key for step in with_it if step.stage not in ("latency", "report")}
    assert rest == {step.key for step in without if step.stage != "report"}


def test_without_pretraining_there_is_only_training_from_scratch(mini_data: Path) -> None:
    planned = make(mini_data, corpus__sizes=[0], treatments=[])
    assert not {step.stage for step in planned.steps} & {"pretrain", "corpus", "overlap", "inject"}
    starts = {name for step in planned.steps if step.stage == "finetune" for name in step.inputs}
    assert "pretrained" not in starts
    assert {s.labels["init"] for s in planned.steps if s.stage == "finetune"} == {"scratch"}


def test_the_svd_arm_is_a_fine_tuning_of_its_own_from_each_sets_vectors_and_in_no_committee(mini_data: Path) -> None:
    before, after = make(mini_data), make(mini_data, svd_arm=True, finetune_seeds=[0, 1])
    arm = [step for step in after.steps if step.labels.get("init") == "svd"]
    assert {(s.labels["ws"], s.labels["treatment"], s.labels["arch"], s.labels["finetune_seed"]) for s in arm} == {
        (ws, treatment, arch, seed)
        for ws, treatment, arch in [
            *((ws, None, arch) for ws in (60, 120) for arch in ("one", "conv")),
            (120, "random-unk-3", "one"),
        ]
        for seed in (0, 1)
    }
    vectors = {step.key: step for step in after.steps if step.stage == "ppmi_svd"}
    assert len(vectors) == 3  # both architectures are 16 wide
    for step in arm:
        assert "pretrained" not in step.inputs and "pretrain_seed" not in step.labels
        assert vectors[step.input_keys["embeddings"]].labels["ws"] == step.labels["ws"]
    in_committees = {key for s in after.steps if s.stage == "committee" for key in s.input_keys.values()}
    assert not in_committees & {step.key for step in arm}
    one_seed = make(mini_data, svd_arm=True)
    assert keys(before) - {before.report.key} < keys(one_seed)  # it trains nothing else anew


def test_pretraining_that_begins_with_vectors_has_those_of_its_own_set(mini_data: Path) -> None:
    planned = make(mini_data, pretrain__embedding_init="ppmi_svd")
    by_key = {step.key: step for step in planned.steps}
    for step in (step for step in planned.steps if step.stage == "pretrain"):
        assert by_key[step.input_keys["embeddings"]].input_keys["corpus"] == step.input_keys["corpus"]
    assert changed_stages(make(mini_data), planned) == {"ppmi_svd", "pretrain", "finetune"} | BELOW_FINETUNE


def test_packing_keeps_paragraphs_whole_and_cuts_the_tasks_texts_as_before(mini_data: Path) -> None:
    cut, packed = (
        make(mini_data, treatments=EVERY_TREATMENT),
        make(mini_data, treatments=EVERY_TREATMENT, pretrain__packing=True),
    )
    lengths = {step.inputs["source"].key: step.config["max_length"] for step in cut.steps if step.stage == "tokens"}
    assert set(lengths.values()) == {16}
    by_key = {step.key: step for step in packed.steps}
    for step in packed.steps:
        for name in {"tokens", "foreign", "corpus_tokens", "task_tokens"} & set(step.inputs):
            whole = by_key[step.input_keys[name]].config["max_length"] is None
            assert whole == (name != "task_tokens" and step.stage in ("corpus", "mix", "inject")), step.ref
    scratch = {step.key for step in cut.steps if step.labels.get("init") == "scratch"}
    assert scratch <= set(by_key)


def test_a_study_without_scratch_has_none(mini_data: Path) -> None:
    planned = make(mini_data, corpus__sizes=[60, 120])
    assert {s.labels["init"] for s in planned.steps if s.stage == "finetune"} == {"pretrained"}


def test_seeds_multiply_models_and_nothing_else(mini_data: Path) -> None:
    one, more = make(mini_data), make(mini_data, pretrain_seeds=[0, 1], finetune_seeds=[0, 1, 2])
    before, after = ({s: sum(x.stage == s for x in p.steps) for s in STAGES} for p in (one, more))
    assert after["pretrain"] == 2 * before["pretrain"]
    assert after["finetune"] == 3 * (2 * 5 + 2)
    for stage in ("corpus", "overlap", "inject", "task", "committee", "baseline"):
        assert after[stage] == before[stage]
    assert keys(one, "finetune", "pretrain") < keys(more)


def test_a_committee_has_every_member_with_every_seed(mini_data: Path) -> None:
    planned = make(mini_data, finetune_seeds=[0, 1])
    by_key = {step.key: step for step in planned.steps}
    for ws in (0, 60, 120):
        committee = only(planned, "committee", ws=ws)
        members = [by_key[key].labels for key in committee.input_keys.values()]
        assert [(m["arch"], m["finetune_seed"]) for m in members] == [("one", 0), ("conv", 0), ("one", 1), ("conv", 1)]
        assert {m["ws"] for m in members} == {ws} and {m["treatment"] for m in members} == {None}


def test_injected_corpora_train_only_the_chosen_architectures_on_the_treatment_task(mini_data: Path) -> None:
    tree = mini_tree()
    other = {**tree["tasks"][0], "name": "other", "train_per_label": 13}
    planned = make(mini_data, tasks=[tree["tasks"][0], other])
    injected = [s for s in planned.steps if s.labels.get("treatment") and s.stage in ("pretrain", "finetune")]
    assert {(s.stage, s.labels["arch"], s.labels.get("task")) for s in injected} == {
        ("pretrain", "one", None),
        ("finetune", "one", "topics"),
    }
    assert sum(s.stage == "overlap" and s.labels["treatment"] is not None for s in planned.steps) == 1


def test_steps_that_are_the_same_are_shared(mini_data: Path) -> None:
    """Two tasks from one source: it is read and tokenised once; a corpus that is also the task's source likewise."""
    tree = mini_tree()
    other = {**tree["tasks"][0], "name": "other", "train_per_label": 13}
    one, two = make(mini_data), make(mini_data, tasks=[tree["tasks"][0], other])
    assert keys(one, "source", "tokens", "corpus", "pretrain", "task") < keys(two)
    assert len(keys(two, "source")) == 2 and len(keys(two, "tokens")) == 2
    same = make(mini_data, corpus__source=tree["tasks"][0]["source"], corpus__sizes=[0, 20], treatments=[])
    assert len(keys(same, "source")) == len(keys(same, "tokens")) == 1


def test_below_is_the_steps_and_all_that_depend_on_them(mini_plan: Plan) -> None:
    pretrain = only(mini_plan, "pretrain", ws=60, arch="one")
    below = mini_plan.below([pretrain.key])
    assert [step.stage for step in below] == ["pretrain", "finetune", "committee", "report"]
    assert mini_plan.below([mini_plan.report.key]) == [mini_plan.report]
    assert mini_plan.below([]) == []


# --- what is identity ---


@pytest.mark.parametrize(
    ("field", "value", "stages"),
    [
        ("title", "Another", {"report"}),
        ("name", "another", {"report"}),
        ("baselines", ["tfidf"], {"report"}),
        ("finetune__epochs", 3, {"finetune"} | BELOW_FINETUNE),
        ("finetune_seeds", [1], {"finetune"} | BELOW_FINETUNE),
        ("pretrain__learning_rate", 2e-3, {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("learning_rates", {"one": 2e-3}, {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("finetune_learning_rates", {"one": 2e-3}, {"finetune"} | BELOW_FINETUNE),
        ("pretrain_seeds", [1], {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("ppmi_svd", {"window": 4}, {"report"}),
        ("initialization", {"matrices": "fan_in"}, {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("pretrain__dropout", 0.2, {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("finetune__dropout", 0.2, {"finetune"} | BELOW_FINETUNE),
        ("finetune__layer_decay", 0.9, {"finetune"} | BELOW_FINETUNE),
        ("pretrain__optimizer", "muon", {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("architectures__0__options", {"norm_position": "pre"}, {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("pretrain__packing", True, BELOW_TOKENS | {"report"}),
        ("pretrain__output_bias", "log_unigram", {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("svd_arm", True, {"ppmi_svd", "finetune", "report"}),
        ("pretrain__mlm_probability", 0.2, {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("architectures__0__num_hidden_layers", 2, {"pretrain", "finetune"} | BELOW_FINETUNE),
        ("corpus__seed", 1, BELOW_CORPUS),
        ("corpus__heldout", 21, BELOW_CORPUS),
        ("treatments__0__seed", 1, {"inject", "overlap", "pretrain", "finetune", "report"}),
        (
            "tasks__0__train_per_label",
            13,
            {"task", "overlap", "duplicates", "inject", "pretrain", "finetune", "baseline"} | BELOW_FINETUNE,
        ),
        ("max_length", 12, BELOW_TOKENS),
        ("tokenizer__vocab_size", 301, BELOW_TOKENS | {"tokenizer"}),
        ("tokenizer__lowercase", False, BELOW_TOKENS | {"tokenizer"}),
        ("committees__0__members", ["conv"], {"committee", "report"}),
    ],
)
def test_a_changed_field_re_runs_exactly_the_stages_below_it(
    field: str, value: Any, stages: set[str], mini_data: Path
) -> None:
    assert changed_stages(make(mini_data), make(mini_data, **{field: value})) == stages


def test_a_changed_pretraining_leaves_training_from_scratch_alone(mini_data: Path) -> None:
    before, after = make(mini_data), make(mini_data, pretrain__steps=7)
    for planned in (before, after):
        assert len([s for s in planned.steps if s.labels.get("init") == "scratch"]) == 3
    scratch = {s.key for s in before.steps if s.labels.get("init") == "scratch"}
    assert scratch <= keys(after)
    assert not keys(before, "pretrain") & keys(after, "pretrain")


def test_a_changed_task_re_pretrains_only_on_the_corpus_that_was_injected_for_it(mini_data: Path) -> None:
    before, after = make(mini_data), make(mini_data, tasks__0__seed=1)
    kept = keys(before, "pretrain") & keys(after, "pretrain")
    assert kept == {s.key for s in before.steps if s.stage == "pretrain" and s.labels["treatment"] is None}


def test_another_size_leaves_the_others_as_they_are(mini_data: Path) -> None:
    before, after = make(mini_data), make(mini_data, corpus__sizes=[0, 60, 90, 120])
    assert keys(before) - {before.report.key} < keys(after)


def test_keys_do_not_depend_on_where_the_data_lies(mini_data: Path, tmp_path: Path) -> None:
    shutil.copytree(mini_data, tmp_path / "elsewhere/deep")
    assert keys(make(mini_data)) == keys(make(tmp_path / "elsewhere/deep"))


def test_keys_do_not_depend_on_the_files_names_but_on_what_they_hold(mini_data: Path) -> None:
    before = make(mini_data)
    (mini_data / "corpus.csv").rename(mini_data / "renamed.csv")
    assert changed_stages(before, make(mini_data, corpus__source__path="renamed.csv")) == {"report"}
    with open(mini_data / "renamed.csv", "a") as file:
        file.write("One more paragraph.\n")
    changed = changed_stages(before, make(mini_data, corpus__source__path="renamed.csv"))
    assert changed == {step.stage for step in before.steps} - {"task", "baseline"}


def test_keys_do_not_depend_on_the_order_of_architectures(mini_data: Path) -> None:
    tree = mini_tree()
    turned = make(mini_data, architectures=list(reversed(tree["architectures"])))
    assert keys(make(mini_data)) ^ keys(turned) == {make(mini_data).report.key, turned.report.key}


def test_keys_of_models_do_not_depend_on_the_names_of_architectures_tasks_and_committees(mini_data: Path) -> None:
    tree = mini_tree()
    renamed = make(
        mini_data,
        architectures__0__name="uno",
        treatment_architectures=["uno"],
        tasks__0__name="temas",
        treatments__0__task="temas",
        committees=[{"name": "par", "members": ["uno", "conv"]}],
    )
    assert tree["architectures"][0]["name"] == "one"
    assert changed_stages(make(mini_data), renamed) == {"report"}


def test_a_version_of_a_stage_re_makes_it_and_what_is_below(mini_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make(mini_data)
    before_keys = keys(before)
    monkeypatch.setattr(STAGES["pretrain"], "version", "99")
    after = make(mini_data)
    new = {step.stage for step in after.steps if step.key not in before_keys}
    assert new == {"pretrain", "finetune"} | BELOW_FINETUNE


def test_no_step_holds_the_data_root(mini_data: Path) -> None:
    assert all(str(mini_data) not in step.model_dump_json() for step in make(mini_data).steps)


# --- errors and imports ---


def test_every_missing_file_is_named_at_once(tmp_path: Path) -> None:
    study = mini_study(tokenizer={"kind": "vocabulary", "path": "bert/vocab.txt"})
    with pytest.raises(UserError, match=r"corpus\.csv.*bert/vocab\.txt.*task\.csv") as raised:
        plan(study, str(tmp_path / "nowhere"))
    assert "TLM_DATA_ROOT" in str(raised.value) and "\n" not in str(raised.value)


def test_planning_imports_nothing_heavy(tmp_path: Path) -> None:
    write_mini_data(tmp_path)
    code = (
        "import sys; from helpers import mini_study; from tlm.planning.plan import plan; import tlm.artifacts.store;"
        f"print(len(plan(mini_study(), {str(tmp_path)!r}).steps));"
        "print([m for m in ('torch', 'transformers', 'prefect', 'mlflow', 'datasets', 'sklearn') if m in sys.modules])"
    )
    done = python(code, cwd=Path(__file__).parents[1])
    assert done.stdout.split("\n")[:2] == ["33", "[]"], done.stderr


def test_a_studys_plan_survives_a_round_trip_of_its_config(mini_data: Path) -> None:
    study = StudyConfig.model_validate_json(mini_study().model_dump_json())
    assert keys(plan(study, str(mini_data))) == keys(make(mini_data))


def test_the_default_objective_spelled_out_trains_nothing_anew(mini_data: Path, mini_plan: Plan) -> None:
    spelled = plan(mini_study(pretrain__objective="masked"), str(mini_data))
    assert keys(spelled, "pretrain", "finetune", "committee") == keys(mini_plan, "pretrain", "finetune", "committee")
