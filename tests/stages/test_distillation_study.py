"""Students of a study: the twins of its members, taught by the committee that has their seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Mini, mini_study, only

from tlm.artifacts.record import RECORD, from_file, leaving, to_file
from tlm.artifacts.step import Step
from tlm.errors import UserError
from tlm.evaluation.committee import soft
from tlm.execution.execute import execute
from tlm.planning.plan import Identities, Plan, plan
from tlm.planning.weights import check_weights
from tlm.report.study_systems import distilled, models
from tlm.study.config import StudyConfig
from tlm.tuning.objective import Objective

TAUGHT = {"teacher": "pair", "students": ["one"], "alpha": 0.5, "temperature": 4.0}


def students(planned: Plan) -> list[Step]:
    return [step for step in planned.steps if "teacher" in step.inputs]


def members(step: Step, planned: Plan) -> list[Step]:
    """Of a student's teacher."""
    by_key = {each.key: each for each in planned.steps}
    teacher = by_key[step.inputs["teacher"].key]
    return [by_key[ref.key] for name, ref in sorted(teacher.inputs.items()) if name.startswith("member")]


@pytest.mark.parametrize(
    "seeds",
    [
        {"seeds": "crossed", "pretrain_seeds": [3, 1], "finetune_seeds": [0, 5]},
        {"seeds": "paired", "pretrain_seeds": [3, 1], "finetune_seeds": [0, 5], "further_scratch_seeds": [9]},
    ],
)
def test_every_student_is_a_member_again_with_the_committee_of_its_seeds_as_teacher(
    seeds: dict[str, Any], mini_data: Path
) -> None:
    planned = plan(mini_study(distillation=TAUGHT, **seeds), str(mini_data))
    found = students(planned)
    assert len(found) == (2 * 4 if seeds["seeds"] == "crossed" else 2 * 2) + 2, "at each Ws, and from scratch"
    for step in found:
        same = {name: step.labels[name] for name in ("ws", "pretrain_seed", "finetune_seed") if name in step.labels}
        twin = only(planned, "finetune", **{**same, "arch": "one", "treatment": None, "arm": None})
        assert {**twin.config, "distillation": {"alpha": 0.5, "temperature": 4.0}} == step.config
        assert {**twin.inputs, "teacher": step.inputs["teacher"]} == step.inputs
        for member in members(step, planned):
            assert {name: member.labels[name] for name in same} == same
        assert [member.labels["arch"] for member in members(step, planned)] == ["one", "conv"]


def test_students_change_nothing_of_a_study_but_its_report(mini: Mini) -> None:
    planned = plan(mini_study(distillation=TAUGHT), mini.runtime.data_root)
    before, after = ({step.key for step in each.steps[:-1]} for each in (mini.plan, planned))
    added = [step for step in planned.steps[:-1] if step.key not in before]
    assert before < after and {step.stage for step in added} == {"teacher", "finetune"}
    assert models(planned.study) == ["one", "conv", distilled("one")]


def test_a_teacher_is_asked_about_training_items_alone_and_its_student_is_a_model_like_others(own: Mini) -> None:
    planned = plan(mini_study(distillation=TAUGHT), own.runtime.data_root)
    student = next(step for step in students(planned) if step.labels["ws"] == 0)
    (teacher,) = (step for step in planned.steps if step.key == student.inputs["teacher"].key)
    for step in (teacher, student):
        execute(step, own.runtime)
    logits_MNC = np.load(own.folder(teacher) / "logits.npy")
    items = own.frame(only(own.plan, "task"), "items.parquet").query("part == 'train'")
    assert logits_MNC.shape == (2, len(items), 2)
    right = soft(logits_MNC).argmax(axis=1) == items["label"]
    assert own.store.get(teacher.ref).record.facts["train_accuracy"] == pytest.approx(right.mean())
    predicted, twin = (own.frame(step, "predictions.parquet") for step in (student, members(student, planned)[0]))
    assert predicted["item_id"].tolist() == twin["item_id"].tolist()
    assert not np.allclose(np.stack(predicted["logits"].to_list()), np.stack(twin["logits"].to_list()))


def test_a_teacher_whose_members_have_left_their_weights_behind_is_refused_before_any_work(own: Mini) -> None:
    planned = plan(mini_study(distillation=TAUGHT), own.runtime.data_root)
    (member,) = (m for m in members(students(planned)[0], planned) if m.labels["arch"] == "conv")
    place = own.folder(member) / RECORD
    place.write_bytes(to_file(leaving(from_file(place.read_bytes()), ["model.safetensors"])))
    todo = [step for step in planned.steps if step.stage == "teacher"]
    with pytest.raises(UserError, match=rf"teacher/pair-.* cannot run: {member.ref} is here without weights"):
        check_weights(todo, own.store)


def test_a_search_may_judge_students_by_dev_items(mini: Mini) -> None:
    study = mini_study(distillation=TAUGHT)
    found = Objective(arms=("distilled",)).of(study, Identities(mini.runtime.data_root))
    assert {str(cell) for cell in found.cells} == {"distilled one Ws=120 topics", "distilled one Ws=0 topics"}
    assert all(stage.teacher and not stage.task.test_items for runs in found.cells.values() for stage in runs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher": "trio"}, r"distillation\.teacher: unknown \['trio'\]; choose from \['pair'\]"),
        ({"students": ["two"]}, r"distillation\.students: unknown \['two'\]; choose from \['one', 'conv'\]"),
        ({"students": ["one", "one"]}, r"distillation\.students: \['one'\] appears more than once"),
        ({"alpha": 0}, "alpha"),
        ({"temperature": 0}, "temperature"),
    ],
)
def test_a_teacher_or_student_that_the_study_lacks_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mini_study(distillation={**TAUGHT, **change})
    assert StudyConfig.model_validate_json(mini_study(distillation=TAUGHT).model_dump_json()).distillation is not None
