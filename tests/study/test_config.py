"""A study is checked when it is read: what is impossible is named, and what is written out reads back the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import mini_study, mini_tree
from pydantic import ValidationError

from flows.loading import load_study, to_yaml
from flows.studies import STUDIES
from tlm.data.corpus import SAMPLERS
from tlm.data.injection import REMOVALS, SELECTIONS
from tlm.errors import UserError
from tlm.evaluation.baselines import BASELINES
from tlm.planning.registries import check_registries
from tlm.study.adapt import reference_compat
from tlm.study.architecture import Architecture, variant
from tlm.study.base import slugify
from tlm.study.config import CorpusConfig, FinetuneConfig, ItemSelection, PretrainConfig, StudyConfig
from tlm.study.treatments import MissingTokens, Removal


def expect_refusal(fragment: str, **changes: Any) -> None:
    with pytest.raises(ValidationError, match=fragment):
        mini_study(**changes)


def test_a_study_cannot_be_changed() -> None:
    study = mini_study()
    with pytest.raises(ValidationError, match="frozen"):
        study.name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        study.pretrain.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "field", ["epoch", "pretrain__epoch", "corpus__source__paht", "tasks__0__train", "tokenizer__x"]
)
def test_an_unknown_field_is_an_error_that_names_it(field: str) -> None:
    expect_refusal(rf"{field.split('__')[-1]}\n  Extra inputs are not permitted", **{field: 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pretrain__steps", "many"),
        ("pretrain__steps", 0),
        ("pretrain__learning_rate", float("inf")),
        ("pretrain__learning_rate", -1.0),
        ("pretrain__mlm_probability", 1.0),
        ("corpus__sizes", []),
        ("corpus__sizes", [-1]),
        ("corpus__heldout", 0),
        ("max_length", 4),
        ("architectures", []),
        ("tokenizer__vocab_size", 70_000),
        ("tokenizer__kind", "magic"),
        ("corpus__source__kind", "magic"),
        ("name", "Not A Name"),
        ("pretrain__max_steps", 0),
        ("finetune__max_steps", 0),
        ("seeds", "shuffled"),
        ("architectures__0__kind", "both"),
        ("finetune__precision", "float8"),
        ("finetune__schedule", "cosine"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        mini_study(**{field: value})
    parts = field.split("__")
    place = ".".join(str(part) for part in raised.value.errors()[0]["loc"])
    assert parts[0] in place and (parts[-1] in place or parts[-1] == "kind")


def test_heads_must_divide_the_hidden_size() -> None:
    expect_refusal("num_attention_heads=3 does not divide hidden_size=16", architectures__0__num_attention_heads=3)


def test_convolution_fields_go_together() -> None:
    expect_refusal("give both or neither", architectures__1__conv_channels=0)
    expect_refusal("give both or neither", architectures__0__conv_kernel_sizes=[[3, 3]])


def test_a_decoder_sees_nothing_that_comes_and_has_no_cls() -> None:
    for change in ({"freeze_cls_embedding": True}, {"conv_kernel_sizes": [[3, 3]], "conv_channels": 2}):
        one = {**mini_tree()["architectures"][0], "kind": "decoder", **change}
        expect_refusal("decoder has neither a convolutional front", architectures__0=one)


def test_dev_items_must_leave_training_items() -> None:
    expect_refusal("dev_per_label=12 is taken from train_per_label=12", tasks__0__dev_per_label=12)
    with pytest.raises(ValidationError, match="must be smaller"):
        ItemSelection(train_per_label=1, dev_per_label=2, test_per_label=1)


def test_pretraining_is_as_long_as_epochs_or_steps_say_but_not_both() -> None:
    expect_refusal("either epochs or steps", pretrain__epochs=1)
    expect_refusal("either epochs or steps", pretrain__steps=None)
    assert PretrainConfig(epochs=2).steps is None


def test_an_injection_has_a_count_or_a_share_but_not_both() -> None:
    expect_refusal("either count or share", treatments__0__share=0.5)
    expect_refusal("either count or share", treatments__0__count=None)


def test_a_treatments_label_says_which_how_and_how_many() -> None:
    treatment = MissingTokens(task="t", ws=10, count=5, selection="rarest", removal="drop")
    assert treatment.label == "rarest-drop-5"
    assert MissingTokens(task="t", ws=10, share=0.125).label == "random-unk-12.5pct"


def test_unknown_names_are_errors_that_list_the_known_ones() -> None:
    expect_refusal(
        r"committees.pair.members: unknown \['two'\]; choose from \['one', 'conv'\]", committees__0__members=["two"]
    )
    expect_refusal(r"treatment_architectures: unknown \['two'\]", treatment_architectures=["two"])
    expect_refusal(r"learning_rates: unknown \['two'\]; choose from \['one', 'conv'\]", learning_rates={"two": 1e-3})
    expect_refusal(r"finetune_learning_rates: unknown \['two'\]", finetune_learning_rates={"two": 1e-3})
    expect_refusal(r"treatments.task: unknown \['x'\]; choose from \['topics'\]", treatments__0__task="x")
    expect_refusal(r"treatments.ws: unknown \[70\]; choose from \[60, 120\]", treatments__0__ws=70)
    expect_refusal(r"architecture_sizes: unknown \['two'\]", architecture_sizes={"two": [120]})
    expect_refusal(r"architecture_sizes.one: unknown \[70\]; choose from \[60, 120\]", architecture_sizes={"one": [70]})
    expect_refusal(r"architecture_sizes.conv: 120 is missing", architecture_sizes={"conv": [60]})
    expect_refusal(r"architecture_sizes.one: 60 is missing", treatments__0__ws=60, architecture_sizes={"one": [120]})


def test_names_and_seeds_and_sizes_appear_once() -> None:
    tree = mini_tree()
    expect_refusal(r"architectures: \['one'\] appears more than once", architectures=[tree["architectures"][0]] * 2)
    expect_refusal(r"tasks: \['topics'\] appears more than once", tasks=tree["tasks"] * 2)
    expect_refusal(r"committees: \['pair'\] appears more than once", committees=tree["committees"] * 2)
    expect_refusal(r"finetune_seeds and .*: \[1\] appears more than once", finetune_seeds=[1, 1])
    expect_refusal("further_scratch_seeds: \\[0\\] appears more than once", further_scratch_seeds=[3, 0])
    expect_refusal("each Ws once", corpus__sizes=[60, 60])


def test_sizes_are_sorted() -> None:
    assert mini_study(corpus__sizes=[120, 0, 60]).corpus.sizes == (0, 60, 120)


def test_names_that_are_defaults_are_in_their_registries() -> None:
    """Which is why they are not looked up before a study is planned."""
    removal = Removal(count=1)
    assert {*StudyConfig.model_fields["baselines"].default} <= BASELINES.keys()
    assert CorpusConfig.model_fields["sampler"].default in SAMPLERS
    assert removal.selection in SELECTIONS and removal.removal in REMOVALS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("corpus__sampler", "best"),
        ("analysis", "best"),
        ("baselines", ["oracle"]),
        ("treatments__0__selection", "best"),
        ("treatments__0__removal", "burn"),
    ],
)
def test_a_name_that_is_in_no_registry_is_an_error_that_lists_the_registry(field: str, value: Any) -> None:
    name = value[0] if isinstance(value, list) else value
    with pytest.raises(UserError, match=rf"unknown '{name}'\. Choose from \['"):
        check_registries(mini_study(**{field: value}))


# --- seeds ---


def seeds_of(schema: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a JSON schema that is called a seed, or a list of them."""
    if isinstance(schema, list):
        for item in schema:
            yield from seeds_of(item, place)
    elif isinstance(schema, dict):
        for name, below in schema.items():
            if name.endswith(("seed", "_seeds")) and isinstance(below, dict):
                yield f"{place}.{name}", below.get("items", below)
            yield from seeds_of(below, f"{place}.{name}")


def test_every_seed_of_the_schema_is_bounded() -> None:
    found = dict(seeds_of(StudyConfig.model_json_schema()))
    assert {name.rsplit(".", 1)[1] for name in found} >= {
        *("seed", "shard_seed", "pretrain_seeds", "finetune_seeds", "further_scratch_seeds"),
    }
    for name, schema in found.items():
        assert (schema.get("minimum"), schema.get("exclusiveMaximum")) == (0, 2**63), name


@pytest.mark.parametrize("value", [-1, 2**63, 2**70])
@pytest.mark.parametrize(
    "field", ["tasks.topics.seed", "corpus.seed", "treatments.0.seed", "pretrain_seeds.0", "finetune_seeds.0"]
)
def test_a_seed_that_no_generator_takes_is_an_error_that_names_it(field: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf": {field}: Input should be .* \(got {value}\)\.") as caught:
        load_study(saved(tmp_path, mini_tree()), [f"{field}={value}"])
    assert "\n" not in str(caught.value)


def test_the_largest_seed_is_one(tmp_path: Path) -> None:
    assert load_study(saved(tmp_path, mini_tree()), [f"corpus.seed={2**63 - 1}"]).corpus.seed == 2**63 - 1


# --- reference code ---


def test_reference_compat_changes_the_schedule_and_the_architecture_and_nothing_else() -> None:
    study = mini_study()
    theirs = reference_compat(study)
    assert theirs.pretrain == study.pretrain.model_copy(update={"schedule": "epoch"})
    assert theirs.finetune == study.finetune.model_copy(update={"schedule": "epoch"})
    assert all(a.conv_over_padding and a.freeze_cls_embedding for a in theirs.architectures)
    same = {"pretrain", "finetune", "architectures"}
    assert theirs.model_dump(exclude=same) == study.model_dump(exclude=same)
    assert StudyConfig.model_validate(theirs.model_dump(mode="json")) == theirs


def test_the_papers_protocol_is_the_default() -> None:
    finetune = FinetuneConfig()
    assert (finetune.learning_rate, finetune.weight_decay, finetune.batch_size) == (5e-5, 0.01, 32)
    assert PretrainConfig(epochs=50).mlm_probability == 0.15


def test_how_to_fine_tune_is_said_where_there_is_a_task_and_need_not_be_elsewhere() -> None:
    fields = mini_tree()
    del fields["finetune"]
    with pytest.raises(ValidationError, match="finetune: required in a study that has tasks"):
        StudyConfig.model_validate(fields)
    scored = {"tasks": [], "treatments": [], "committees": [], "evaluations": [{"kind": "likelihood", "data": "blimp"}]}
    study = StudyConfig.model_validate({**fields, **scored})
    assert study.finetune == FinetuneConfig()


# --- files and overrides ---


@pytest.mark.parametrize("name", [*STUDIES, "mini"])
def test_a_study_written_as_yaml_reads_back_the_same(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]() if name in STUDIES else mini_study(treatments__0__share=0.3, treatments__0__count=None)
    (tmp_path / "study.yaml").write_text(to_yaml(study), encoding="utf-8")
    assert load_study(str(tmp_path / "study.yaml")) == study


def saved(tmp_path: Path, tree: Any) -> str:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return str(tmp_path / "study.yaml")


def test_a_variant_in_a_file_stands_for_the_whole_architecture(tmp_path: Path) -> None:
    short = [{"variant": "bert1b", "head_size": 8, "conv_channels": 4}, {"variant": "bert6", "name": "deep"}]
    tree = mini_tree(architectures=short, treatment_architectures=None)
    tree["committees"] = [{"name": "pair", "members": ["bert1b", "deep"]}]
    study = load_study(saved(tmp_path, tree))
    assert study.architectures == (variant("bert1b", head_size=8, conv_channels=4), variant("bert6", rename="deep"))
    assert study.architecture_of["deep"].hidden_size == 768


def test_an_unknown_variant_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    tree = mini_tree(architectures=[{"variant": "bert7"}])
    with pytest.raises(UserError, match=r"architectures\.0: variant: unknown 'bert7'; choose from \['bert1', 'bert1a'"):
        load_study(saved(tmp_path, tree))


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("finetune.epochs=7", lambda s: s.finetune.epochs == 7),
        ("finetune.learning_rate=1e-3", lambda s: s.finetune.learning_rate == 1e-3),
        ("corpus.sizes=[0, 1000]", lambda s: s.corpus.sizes == (0, 1_000)),
        ("corpus.sizes.1=500", lambda s: s.corpus.sizes == (0, 500)),
        ("tasks.0.train_per_label=50", lambda s: s.tasks[0].train_per_label == 50),
        ("tasks.libraries.train_per_label=50", lambda s: s.tasks[0].train_per_label == 50),
        ("architectures.bert2.hidden_dropout_prob=0.2", lambda s: s.architectures[0].hidden_dropout_prob == 0.2),
        ("title='a: b'", lambda s: s.title == "a: b"),
        ("pretrain.epochs=2", lambda s: (s.pretrain.epochs, s.pretrain.steps) == (2, None)),
        ("corpus.source.libraries=[torch, numpy]", lambda s: s.corpus.source.libraries == ("torch", "numpy")),
    ],
)
def test_an_override_sets_one_field_by_path_and_list_elements_by_name_or_number(override: str, read: Any) -> None:
    assert read(load_study("demo", [override]))


def test_overrides_apply_in_order() -> None:
    assert load_study("demo", ["finetune.epochs=1", "finetune.epochs=2"]).finetune.epochs == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("finetune.epoch=1", r"unknown field 'epoch'.*'epochs'"),
        ("fintune.epochs=1", r"unknown field 'fintune'.*'finetune'"),
        ("name.x.y=1", "unknown field 'x'"),
        ("tasks.movies.seed=1", r"no element 'movies'.*'libraries'"),
        ("tasks.9.seed=1", "no element '9'"),
        ("tasks.²=1", "no element '²'"),
        (f"tasks.{'9' * 5_000}=1", "no element '9"),
        ("pretrain_seeds=[true]", r"pretrain_seeds\.0: .*\(got True\)"),
        (f"pretrain.steps={2**63}", r"pretrain.steps: a whole number must be less than 2\*\*63"),
        (f"corpus.sizes=[0, 1{'0' * 400}]", r"corpus.sizes: a whole number must be less than 2\*\*63"),
        ("finetune.epochs", "is not field=value"),
        ("=1", "is not field=value"),
        ("finetune.epochs=[", "is not a YAML value"),
        ("finetune.epochs=many", r"finetune\.epochs: .*\(got 'many'\)"),
        ("architectures.0.num_attention_heads=3", "num_attention_heads=3 does not divide hidden_size=128"),
    ],
)
def test_an_impossible_override_is_an_error_that_names_it_and_what_is_possible(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_study("demo", [override])
    assert "\n" not in str(raised.value)


def test_an_override_can_set_a_field_that_the_file_leaves_at_its_default(tmp_path: Path) -> None:
    place = saved(tmp_path, mini_tree())
    study = load_study(place, ["finetune.weight_decay=0.5", "pretrain.epochs=3", "finetune_seeds=[1, 2]"])
    assert (study.finetune.weight_decay, study.pretrain.epochs, study.pretrain.steps) == (0.5, 3, None)
    assert study.finetune_seeds == (1, 2)
    with pytest.raises(UserError, match="unknown field 'weight_deca'"):
        load_study(place, ["finetune.weight_deca=0.5"])


def test_an_override_can_widen_a_variant_in_a_file(tmp_path: Path) -> None:
    short = mini_tree(architectures=[{"variant": "bert6"}], treatment_architectures=None, committees=[])
    study = load_study(saved(tmp_path, short), ["architectures.0.head_size=8"])
    assert study.architectures == (variant("bert6", head_size=8),)


@pytest.mark.parametrize("given", [{"variant": "bert6"}, {"variant": "bert6", "options": {"bias": False}}, None])
def test_an_override_reaches_the_options_of_an_architecture_whether_it_spells_any_out(
    given: dict[str, Any] | None, tmp_path: Path
) -> None:
    changes = {"architectures": [given], "treatment_architectures": None, "committees": []} if given else {}
    place = saved(tmp_path, mini_tree(**changes))
    study = load_study(place, ["architectures.0.options.norm=rms_norm", "architectures.0.options.norm_position=pre"])
    expected = {"norm": "rms_norm", "norm_position": "pre", **(given or {}).get("options", {})}
    assert study.architectures[0].options.model_dump() == expected
    with pytest.raises(UserError, match="architectures.*options.nrm: unknown field"):
        load_study(place, ["architectures.0.options.nrm=rms_norm"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("- a\n- b\n", "does not hold a study"), ("name: x\n", "corpus: Field required")],
)
def test_a_file_that_is_no_study_is_an_error_that_names_it(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=f"bad.yaml.*{message}") as raised:
        load_study(str(tmp_path / "bad.yaml"))
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot read the study file .*none.yaml"):
        load_study(str(tmp_path / "none.yaml"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="bytes.yaml, line 1: not UTF-8"):
        load_study(str(tmp_path / "bytes.yaml"))


def test_an_unknown_study_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"Unknown study 'deno'\. Choose from \['byte-head', .*'custom-corpus', .*'demo'"
    ):
        load_study("deno")


def test_every_named_study_is_valid_and_named_as_it_is_called() -> None:
    for name, make in STUDIES.items():
        study = make()
        assert study.name == name and study.title and make.description
        check_registries(study)


def test_a_slug_is_safe_in_a_folders_name() -> None:
    assert slugify("BERT-6 (Ws=2,000)/x_y.z") == "bert-6-ws-2-000-x-y.z"


def test_a_user_error_survives_pickling() -> None:
    import copy

    error = copy.copy(UserError("What is wrong.", "The way out."))
    assert (error.problem, error.remedy, str(error)) == (
        "What is wrong.",
        "The way out.",
        "What is wrong. The way out.",
    )


def test_an_architecture_names_the_wrong_field() -> None:
    with pytest.raises(ValidationError, match="hidden_dropout_prob"):
        Architecture(
            name="a",
            num_hidden_layers=1,
            hidden_size=8,
            num_attention_heads=1,
            intermediate_size=8,
            hidden_dropout_prob=2.0,
        )
