"""A field that is added to a configuration changes no key as long as nobody uses it."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from tlm.artifacts.fingerprint import step_key
from tlm.study.base import Frozen, added


class Inner(Frozen):
    size: int = 3
    depth: int = added(2, ge=1, description="added later")


class Outer(Frozen):
    name: str
    inner: Inner = Inner()
    others: tuple[Inner, ...] = (Inner(), Inner(depth=5))
    more: Annotated[tuple[str, ...], Field(max_length=3)] = added(())


def test_an_added_field_at_its_default_is_no_part_of_identity_however_deep() -> None:
    assert Outer(name="a").identity() == {
        "name": "a",
        "inner": {"size": 3},
        "others": [{"size": 3}, {"size": 3, "depth": 5}],
    }


def test_an_added_field_with_another_value_is() -> None:
    assert Outer(name="a", inner=Inner(depth=4), more=("b",)).identity()["inner"] == {"size": 3, "depth": 4}
    assert Outer(name="a", more=("b",)).identity()["more"] == ["b"]


def test_a_field_that_was_there_before_is_part_of_identity_at_its_default() -> None:
    assert Inner().identity() == {"size": 3}


def test_a_plain_dump_has_every_field_and_reads_back() -> None:
    whole = Outer(name="a").model_dump(mode="json")
    assert whole["inner"] == {"size": 3, "depth": 2} and whole["more"] == []
    assert Outer.model_validate(whole) == Outer.model_validate(Outer(name="a").identity()) == Outer(name="a")


def test_options_of_a_dump_apply_to_identity() -> None:
    assert Outer(name="a").identity(exclude={"name", "others"}) == {"inner": {"size": 3}}


def test_the_bounds_of_an_added_field_hold() -> None:
    with pytest.raises(ValueError, match="depth"):
        Inner(depth=0)


def test_the_key_of_a_step_is_that_of_before_the_field_was_added() -> None:
    class Before(Frozen):
        size: int = 3

    keys = {step_key("stage", "1", config.identity(), {}) for config in (Before(), Inner())}
    assert len(keys) == 1
