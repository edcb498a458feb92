"""A disk too small for the weights of a study's models is named before any work."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from helpers import mini_study, write_mini_data

from tlm.errors import UserError
from tlm.machine.memory import GIB
from tlm.machine.runtime import Runtime
from tlm.modeling.families.base import family_of
from tlm.planning.disk import check_disk, free_disk, weights_to_keep
from tlm.planning.plan import plan
from tlm.study.config import StudyConfig

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def studied(tmp_path: Path) -> tuple[StudyConfig, list, Runtime]:
    study, runtime = mini_study(), Runtime(home=str(tmp_path / "home"), data_root=str(write_mini_data(tmp_path)))
    return study, list(plan(study, runtime.data_root).steps), runtime


def test_weights_are_those_of_every_model_that_is_to_be_trained(studied: tuple[StudyConfig, list, Runtime]) -> None:
    study, steps, runtime = studied
    trained = [step for step in steps if step.stage in ("pretrain", "finetune")]
    models, weights = weights_to_keep(study, steps, runtime)
    vocab_size, _ = study.tokenizer.vocabulary_size(runtime.data_root)
    sizes = {
        arch.name: 4 * family_of(arch).parameters(arch, vocab_size=vocab_size, max_position_embeddings=study.max_length)
        for arch in study.architectures
    }
    assert models == len(trained) > 0
    assert weights == sum(sizes[str(step.labels["arch"])] for step in trained)
    assert weights_to_keep(study, [step for step in steps if step not in trained], runtime) == (0, 0)


def test_too_small_a_disk_is_refused_with_what_is_needed_and_free(
    studied: tuple[StudyConfig, list, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, steps, runtime = studied
    models, weights = weights_to_keep(study, steps, runtime)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(GIB, GIB, weights))
    check_disk(study, steps, runtime)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(GIB, GIB, weights - 1))
    with pytest.raises(UserError, match=rf"weights of {models} models take .* are free under TLM_HOME=.*tlm gc"):
        check_disk(study, steps, runtime)


def test_a_home_that_is_not_there_yet_is_measured_where_it_will_be(tmp_path: Path) -> None:
    assert free_disk(Runtime(home=str(tmp_path / "not" / "yet"))) == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.1
    )


def test_an_object_store_has_no_size() -> None:
    assert free_disk(Runtime.model_validate({"home": "s3://bucket/tlm"})) is None
