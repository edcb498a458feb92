"""A study file says each thing once, and is no larger or deeper than a study."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers import mini_tree

from flows.loading import load_study
from flows.yaml_text import BYTES, DEPTH, read_yaml
from tlm.errors import UserError

STUDY = yaml.safe_dump(mini_tree(), sort_keys=False)
LINES = STUDY.count("\n")
NESTED = DEPTH + 1
LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(9))


def refusal(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "study.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as caught:
        load_study(str(path))
    assert "\n" not in str(caught.value) and caught.value.remedy
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize("field", list(mini_tree()))
def test_a_field_of_a_study_that_stands_twice_is_named_with_its_line(tmp_path: Path, field: str) -> None:
    again = yaml.safe_dump({field: mini_tree()[field]})
    assert refusal(tmp_path, STUDY + again).startswith(f", line {LINES + 1}: {field} stands twice.")


def test_a_block_given_in_two_halves_is_an_error(tmp_path: Path) -> None:
    text = STUDY.replace("title: A miniature\n", "finetune: {epochs: 2, batch_size: 8}\n")
    text = text.replace("\nfinetune:\n", "\nfinetune: # the other half\n")
    line = text[: text.index("# the other half")].count("\n") + 1
    assert refusal(tmp_path, text).startswith(f", line {line}: finetune stands twice.")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: {b: 1, c: 2, b: 3}", ", line 1: b stands twice."),
        ("a:\n- b: 1\n  'b': 2\n", ", line 3: b stands twice."),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  <<: *x\n", ", line 4: << stands twice."),
        (f"a: {'[' * NESTED}{']' * NESTED}", f"nested more than {DEPTH} deep"),
        ("[" * 100_000, f"nested more than {DEPTH} deep"),
        (f"a: {'{b: ' * NESTED}1{'}' * NESTED}", f"nested more than {DEPTH} deep"),
        ("a: &a [*a, *a]", f"nested more than {DEPTH} deep"),
        (LAUGHS, "more than 100,000 values"),
        ("#" * (BYTES + 1), f" has more than {BYTES:,} bytes"),
        ("a: 2025-13-45", " is not YAML: month must be in 1..12"),
        ("a: [", " is not YAML: "),
        ('a: 1\ntitle: "\\ud83c"', ", line 2: half a character (\\ud83c), which no file can hold."),
        (b"a: \xff", ", line 1: not UTF-8 (byte 3 of the file)."),
        *(
            (f"a: !!{tag}", "a value is not of the type that its tag says")
            for tag in ("bool x", "map [a]", "timestamp x")
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_no_study_looks_like_is_refused_on_one_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert says in refusal(tmp_path, text)


@pytest.mark.parametrize("name", ["folder.yaml", "\0.yaml", f"{'x' * 300}.yaml", "absent.yaml"])
def test_what_is_no_file_is_no_study_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError, match="Cannot read the study file"):
        load_study(f"{tmp_path}/{name}")


@pytest.mark.parametrize("value", ["{a: 1, a: 2}", "2025-13-45", "[" * 5_000, "{"])
def test_an_overriding_value_is_read_by_the_same_rules(tmp_path: Path, value: str) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    with pytest.raises(UserError, match="--set") as caught:
        load_study(str(tmp_path / "study.yaml"), [f"pretrain.steps={value}"])
    assert "\n" not in str(caught.value)


def test_anchors_and_merged_keys_may_be_used() -> None:
    assert read_yaml("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}") == {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}
