"""Tuning studies as files and as options: what is refused before any work, and which study a trial is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import Tlm, command_line, mini_study, mini_tree, write_mini_data

from flows.tuning import Tuning, check_tuning, load_tuning
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.tuning.search import search_key

RATE, EPOCHS = "pretrain.learning_rate", "finetune.epochs"
OVER = {RATE: "log:1e-4:1e-2", EPOCHS: "int:1:4"}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(home=str(tmp_path / "home"), data_root=str(write_mini_data(tmp_path / "raw")))


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write the miniature study's file and, beside it, a tuning study's; return the latter's name."""
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(mini_tree()))

    def file(**content: Any) -> str:
        path = tmp_path / "tuning.yaml"
        path.write_text(yaml.safe_dump({"name": "tuned", "study": "mini.yaml", "over": OVER, **content}))
        return str(path)

    return file


def key(tuning: Tuning) -> str:
    measured = [run.step.key for runs in tuning.measure(tuning.base).cells.values() for run in runs]
    return search_key(tuning.config, measured)


def test_a_file_and_options_are_one_search(write: Any, runtime: Runtime, tmp_path: Path) -> None:
    as_file = load_tuning(write(set={"finetune_seeds": [3, 4]}, objective={"arms": ["scratch"]}), runtime)
    study = str(tmp_path / "mini.yaml")
    as_options = load_tuning(
        study, runtime, over=OVER, set_={"finetune_seeds": [3, 4]}, objective={"arms": ("scratch",)}, name="tuned"
    )
    assert as_file.base == as_options.base and as_file.base.finetune_seeds == (3, 4)
    assert key(as_file) == key(as_options)
    assert load_tuning(study, runtime, over=OVER).config.name == "mini"


def test_what_is_said_beside_a_file_wins_field_by_field(write: Any, runtime: Runtime) -> None:
    file = write(trials=5, objective={"arms": ["scratch"], "architectures": ["one"]})
    tuning = load_tuning(
        file, runtime, over={EPOCHS: "int:1:2"}, objective={"arms": ("pretrained",)}, trials=7, seed=None
    )
    assert tuning.config.over == {**OVER, EPOCHS: "int:1:2"}
    assert tuning.config.objective.arms == ("pretrained",) and tuning.config.objective.architectures == ("one",)
    assert (tuning.config.trials, tuning.config.seed) == (7, 0)


def test_a_study_may_stand_in_the_file(write: Any, runtime: Runtime) -> None:
    assert load_tuning(write(study=mini_tree()), runtime).base == mini_study()


def test_the_key_is_of_what_decides_the_trials_and_of_nothing_else(write: Any, runtime: Runtime) -> None:
    own = key(load_tuning(write(), runtime))
    assert key(load_tuning(write(name="other", trials=99), runtime)) == own
    for change in ({"seed": 1}, {"at_once": 1}, {"over": {RATE: OVER[RATE]}}, {"set": {"max_length": 12}}):
        assert key(load_tuning(write(**change), runtime)) != own


def test_the_first_trial_is_the_study_as_it_is_if_it_lies_in_the_space(write: Any, runtime: Runtime) -> None:
    assert load_tuning(write(), runtime).start == {RATE: 1e-3, EPOCHS: 2}
    choices = {
        "pretrain.optimizer": [{"kind": "adamw", "betas": [0.5, 0.9]}, "adamw"],
        "learning_rates": [{"one": 0.1}, {}],
    }
    assert load_tuning(write(over=choices), runtime).start == {
        "pretrain.optimizer": "adamw",
        "learning_rates": {},
    }
    for outside in ({EPOCHS: "int:3:4"}, {RATE: "log:1e-4:5e-4"}, {"finetune.max_grad_norm": "float:0.5:1"}):
        assert load_tuning(write(over={**OVER, **outside}), runtime).start is None
    odd = mini_tree(pretrain__learning_rate=0.0012345)  # a trial would have 0.00123
    assert load_tuning(write(study=odd), runtime).start is None


def test_a_trial_is_the_study_with_its_values(write: Any, runtime: Runtime) -> None:
    tuning = load_tuning(write(set={"max_length": 12}), runtime)
    study = tuning.study_of({RATE: 0.00123, EPOCHS: 3})
    assert (study.pretrain.learning_rate, study.finetune.epochs, study.max_length) == (0.00123, 3, 12)
    assert study.pretrain.batch_size == mini_study().pretrain.batch_size


def test_a_recipe_is_a_choice_like_others_and_the_other_fields_win_over_it(write: Any, runtime: Runtime) -> None:
    tree = mini_tree(treatments=[], committees=[], treatment_architectures=None)
    over = {"pretrain.learning_rate": "log:1e-4:1e-2", "recipe": ["paper", "modern"]}
    tuning = load_tuning(write(study=tree, over=over, set={"finetune.epochs": 3}), runtime)
    paper, modern = (tuning.study_of({RATE: 0.00123, "recipe": name}) for name in ("paper", "modern"))
    assert paper.pretrain != modern.pretrain
    assert paper.pretrain.learning_rate == modern.pretrain.learning_rate == 0.00123
    assert paper.finetune.epochs == modern.finetune.epochs == 3
    assert tuning.start is None
    check_tuning(tuning)


def test_fields_of_a_variant_keep_their_short_form_from_trial_to_trial(write: Any, runtime: Runtime) -> None:
    variant = {"variant": "bert1b", "name": "conv", "head_size": 4, "num_attention_heads": 2}
    tree = mini_tree(architectures=[variant], treatments=[], committees=[], treatment_architectures=None)
    tuning = load_tuning(write(study=tree, over={"architectures.conv.head_size": "int:4:8:4"}), runtime)
    sizes = [tuning.study_of({"architectures.conv.head_size": size}).architectures[0].hidden_size for size in (4, 8, 4)]
    assert sizes == [8, 16, 8]


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ({"over": {"pretrain.rate": "log:1:2"}}, ("over pretrain.rate: unknown field 'rate'", "learning_rate")),
        ({"over": {EPOCHS: "int:0:4"}}, ("over finetune.epochs=0", "greater than 0")),
        ({"over": {RATE: "log:1e-4"}}, ("over pretrain.learning_rate: 'log:1e-4' is no space", "log:LOW:HIGH")),
        ({"over": {}}, ("nothing to tune", "--over")),
        ({"over": {RATE: 3}}, (f"over.{RATE}",)),
        ({"trials": 0}, ("trials",)),
        ({"sampler": "grid"}, ("sampler", "'grid'")),
        ({"objective": {"arm": "scratch"}}, ("objective.arm", "unknown field")),
        ({"study": "none.yaml"}, ("none.yaml",)),
        ({"study": "demo", "scale": "tiny"}, ("demo", "one scale")),
        ({"study": {"name": "x"}}, ("tuning.yaml: study", "corpus")),
        ({"set": {"pretrain.rate": 1}}, ("--set pretrain.rate", "'rate'")),
        ({"name": "Not A Name"}, ("name",)),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(
    write: Any, runtime: Runtime, content: dict[str, Any], fragments: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as refused:
        load_tuning(write(**content), runtime)
    for fragment in fragments:
        assert fragment in str(refused.value), str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_field_that_nothing_depends_on_is_refused(write: Any, runtime: Runtime) -> None:
    own_rates = {"finetune_learning_rates": {"one": 1e-3}}
    rate = {"finetune.learning_rate": "log:1e-4:1e-2"}
    only_one = {"architectures": ["one"]}
    with pytest.raises(UserError, match=r"over finetune\.learning_rate: nothing that counts .*finetune_learning_rates"):
        check_tuning(load_tuning(write(over=rate, set=own_rates, objective=only_one), runtime))
    check_tuning(load_tuning(write(over=rate, set=own_rates), runtime))  # the other architecture depends on it
    with pytest.raises(UserError, match=r"over pretrain\.learning_rate: nothing that counts"):
        check_tuning(load_tuning(write(objective={"arms": ["scratch"]}), runtime))


def test_a_field_may_depend_on_the_choice_of_another(write: Any, runtime: Runtime) -> None:
    window = {"ppmi_svd.window": "int:2:10"}
    with pytest.raises(UserError, match=r"over ppmi_svd\.window: nothing that counts"):
        check_tuning(load_tuning(write(over=window), runtime))
    beginnings = {"pretrain.embedding_init": ["normal", "ppmi_svd"]}
    check_tuning(load_tuning(write(over={**window, **beginnings}), runtime))


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ([], "nothing to tune"),
        (["--over", "x"], "--over 'x' is not FIELD=SPACE"),
        (["--over", f"{EPOCHS}=int:1:4", "--budget", "2 hours"], "--budget '2 hours' is no time"),
        (["--over", f"{EPOCHS}=int:1:4", "--budget", "0h"], "--budget '0h' is no time"),
        (["--over", f"{EPOCHS}=int:1:4", "--out", "r.csv"], "--out r.csv: not a .json or .parquet file"),
        (["--over", f"{EPOCHS}=int:1:4", "--arm", "best"], "objective.arms: the study has no 'best'"),
        (["--over", f"{EPOCHS}=int:1:4", "--set", "corpus.sizes=[9999]"], "9999"),
        (["--over", f"{EPOCHS}=int:1:4", "--scale", "tiny"], "no --scale"),
    ],
)
def test_wrong_options_are_one_line_before_anything_is_written(
    write: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    fragment: str,
) -> None:
    write()
    home = tmp_path / "home"
    monkeypatch.setenv("TLM_HOME", str(home))
    monkeypatch.setenv("TLM_DATA_ROOT", str(write_mini_data(tmp_path / "raw")))
    tlm: Tlm = command_line(monkeypatch, capsys)
    if "9999" in fragment:
        options += ["--set", "treatments=[]"]
    said = tlm("tune", str(tmp_path / "mini.yaml"), *options)
    assert said.code == 2 and said.err.startswith("error: ") and said.err.count("\n") == 1, said
    assert fragment in said.err, said.err
    assert list(home.rglob("*")) == []
