"""Spaces as people write them, and that what is drawn is what is printed, trained and pasted."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.yaml_text import read_yaml
from tlm.errors import UserError
from tlm.tuning.config import TuningConfig
from tlm.tuning.space import as_overrides, as_text, parse, parse_over

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=6,
)


def drawn(text: str, seed: int, times: int = 30) -> list[Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [parse("field", text).draw(study.ask(), "field") for _ in range(times)]


@settings(max_examples=50)
@example({"\x85": "1e-4"})
@example({"\n": None})
@given(plain)
def test_a_value_written_as_an_override_is_read_back_as_it_was(value: Any) -> None:
    [override] = as_overrides({"field": value})
    assert "\n" not in override
    assert read_yaml(override.partition("=")[2]) == value


@settings(max_examples=30)
@example([None, {"\x85": None}])
@given(st.lists(plain, min_size=2, max_size=4, unique_by=as_text))
def test_a_list_in_a_file_is_the_choice_of_its_elements(options: list[Any]) -> None:
    config = TuningConfig.model_validate({"name": "t", "study": "demo", "over": {"field": options}})
    assert list(config.space["field"].extremes()) == options


@pytest.mark.parametrize("kind", ["float", "log"])
@settings(max_examples=20)
@given(
    ends=st.tuples(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3)).filter(lambda e: e[0] < e[1]), seed=st.integers(0, 99)
)
def test_a_number_lies_between_its_ends_and_is_drawn_again_if_it_is_given(
    kind: str, ends: tuple[float, float], seed: int
) -> None:
    dimension = parse("field", f"{kind}:{ends[0]!r}:{ends[1]!r}")
    for value in drawn(f"{kind}:{ends[0]!r}:{ends[1]!r}", seed, times=3):
        assert ends[0] <= value <= ends[1]
        assert dimension.raw(value) == value
        assert value in ends or value == float(f"{value:.2e}")


def test_whole_numbers_keep_to_their_steps_and_reach_both_ends() -> None:
    assert set(drawn("int:4:10:3", seed=0)) == {4, 7, 10}
    assert set(drawn("logint:1:3", seed=0)) == {1, 2, 3}
    assert {type(value) for value in drawn("int:0:1e1", seed=0)} == {int}


def test_a_choice_has_values_as_set_reads_them() -> None:
    assert list(parse("f", "choice:adamw, null,0.5,[1, 2],{kind: muon}").extremes()) == [
        *("adamw", None, 0.5, [1, 2], {"kind": "muon"})
    ]
    assert set(drawn("choice:true,false", seed=0)) == {True, False}


def test_what_lies_outside_a_space_or_between_its_values_is_not_in_it() -> None:
    assert parse("f", "int:4:16:4").raw(8) == 8
    assert [parse("f", "int:4:16:4").raw(value) for value in (9, 20, 8.0, True, "8", None)] == [None] * 6
    assert [parse("f", "log:1e-4:1e-2").raw(value) for value in (1e-5, 0.0012345, True, "x", None)] == [None] * 5
    assert parse("f", "choice:a,b").raw("c") is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "log", "log:1e-4", "log:1:2:3", "log:0:1", "log:2:1", "log:1:1", "log:a:b", "float:0:inf", "float:nan:1"),
        *("int:1:2.5", "int:1:9:0", "int:1:9:-1", "int:9:1", "int:1:9:2:2", "logint:0:5", "int:1e400:3", "int:NaN:3"),
        *("choice:", "choice:a", "choice:a,a", "choice:[", "choice:a,b]", "uniform:0:1", "int", "float:1_0:x"),
    ],
)
def test_text_that_is_no_space_is_refused_with_the_field_and_the_syntax(text: str) -> None:
    with pytest.raises(UserError, match=r"over some\.field: .* is no space .*log:LOW:HIGH"):
        parse("some.field", text)


@pytest.mark.parametrize("text", ["", "field", "field=", "=int:1:2"])
def test_an_option_that_is_not_field_and_space_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not FIELD=SPACE"):
        parse_over(text)
