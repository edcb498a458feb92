"""Predicting new texts gives what the study's own predictions hold, and errors come before the work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import Mini, only

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.data.items import SPLITS
from tlm.errors import UserError
from tlm.evaluation.committee import RULES, combine, probabilities
from tlm.inference.models import Classifier, Committee
from tlm.inference.resolve import find_classifiers

SEA, LAND = "the old ship near a harbour", "every farmer saw wheat"


def tuned(mini: Mini, **labels: object) -> Step:
    return only(mini.plan, "finetune", **{"ws": 60, "arch": "one", **labels})


def stored(mini: Mini, step: Step) -> pd.DataFrame:
    """The dev and test items that a finetune step predicted, each with its text."""
    task = only(mini.plan, "task")
    source = next(step for step in mini.plan.steps if step.key == task.inputs["source"].key)
    texts = mini.frame(source, "rows.parquet")[["item_id", "text", "label"]].rename(columns={"label": "source_label"})
    return mini.frame(step, "predictions.parquet").merge(texts, on="item_id")


@pytest.mark.parametrize("arch", ["one", "conv"])
def test_a_test_items_text_gets_the_logits_that_its_study_predicted(mini: Mini, arch: str) -> None:
    step = tuned(mini, arch=arch)
    known = stored(mini, step)
    logits = Classifier.load(mini.store, step.ref).logits(known["text"])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, np.stack(known["logits"].to_list()), atol=1e-4)


def test_a_committee_decides_as_its_study_did_under_every_rule(mini: Mini) -> None:
    step = only(mini.plan, "committee", ws=60)
    texts = stored(mini, tuned(mini)).set_index("item_id")["text"]
    committee = Committee.load(mini.store, find_classifiers(mini.store, [str(step.ref)]))
    assert [member.name for member in committee.members] == [str(step.inputs[n]) for n in sorted(step.inputs)]
    for rule, known in mini.frame(step, "predictions.parquet").groupby("rule"):
        predicted = replace(committee, rule=str(rule)).predict(texts[known["item_id"]])
        assert predicted.best()[:, 0].tolist() == known["prediction"].tolist()


def test_parts_are_the_whole_whatever_their_size(mini: Mini) -> None:
    texts = stored(mini, tuned(mini))["text"].tolist()
    classifier = Classifier.load(mini.store, tuned(mini).ref)
    np.testing.assert_allclose(np.concatenate([*classifier.stream(texts, 7)]), classifier.logits(texts), atol=1e-5)
    committee = Committee((classifier, Classifier.load(mini.store, tuned(mini, arch="conv").ref)), "vote")
    parts = list(committee.stream(texts, 7))
    assert [text for chunk, _ in parts for text in chunk] == texts
    np.testing.assert_allclose(
        np.concatenate([predicted.scores_NC for _, predicted in parts]), committee.predict(texts).scores_NC, atol=1e-5
    )


def test_a_stream_reads_no_further_than_it_has_predicted(mini: Mini) -> None:
    read: list[str] = []

    def texts() -> Iterator[str]:
        for text in (SEA, LAND, SEA, LAND, SEA):
            read.append(text)
            yield text

    stream = Classifier.load(mini.store, tuned(mini).ref).stream(texts(), at_once=2)
    assert len(next(stream)) == 2 and len(read) == 2


def test_no_text_gives_no_row_and_a_single_string_is_refused(mini: Mini) -> None:
    classifier = Classifier.load(mini.store, tuned(mini).ref)
    committee = Committee((classifier,))
    assert classifier.logits([]).shape == (0, 2)
    assert committee.logits([]).shape == (1, 0, 2) and committee.predict([]).best(2).shape == (0, 2)
    with pytest.raises(TypeError, match="one string"):
        classifier.logits(SEA)


def test_labels_carry_the_names_of_the_source(mini: Mini) -> None:
    step = tuned(mini)
    names = Classifier.load(mini.store, step.ref).labels
    assert names == ("land", "sea")
    known = stored(mini, step)
    assert [names[label] for label in known["label"]] == [("land", "sea")[label] for label in known["source_label"]]


def test_a_task_that_keeps_some_of_the_labels_still_names_its_own(own: Mini) -> None:
    """Its label 0 is then another label of the source: here items say that the two have changed places."""
    folder = own.folder(only(own.plan, "task"))
    items = pd.read_parquet(folder / "items.parquet")
    items.assign(label=1 - items["label"]).to_parquet(folder / "items.parquet")
    republish(own, only(own.plan, "task"), folder)
    assert Classifier.load(own.store, tuned(own).ref).labels == ("sea", "land")


def republish(mini: Mini, step: Step, folder: Path) -> None:
    with mini.store.lock(step.ref), mini.store.draft(step.ref) as draft:
        shutil.copy(folder / "items.parquet", draft)
        mini.store.publish(step, draft, facts=dict.fromkeys(SPLITS, 1), provenance={}, seconds=0)


def test_a_committee_of_one_is_its_member(mini: Mini) -> None:
    classifier = Classifier.load(mini.store, tuned(mini).ref)
    logits = classifier.logits([SEA, LAND])
    for rule in RULES:
        chosen = Committee((classifier,), rule).predict([SEA, LAND]).best(1)[:, 0]
        assert chosen.tolist() == logits.argmax(axis=1).tolist()


@pytest.mark.parametrize("rule", RULES)
def test_probabilities_sum_to_one_and_the_decision_is_among_the_highest(rule: str) -> None:
    logits = np.random.default_rng(3).normal(size=(4, 50, 5))
    shown, scores = probabilities(logits, rule), combine(logits, rule)
    np.testing.assert_allclose(shown.sum(axis=1), 1)
    np.testing.assert_allclose(shown[np.arange(50), scores.argmax(axis=1)], shown.max(axis=1))


def test_a_vote_is_shown_as_the_share_of_the_votes() -> None:
    logits = np.log([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])
    np.testing.assert_allclose(probabilities(logits, "vote"), [[1 / 3, 2 / 3]])


# --- what is not right ---


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_damaged_and_missing_weights_are_a_users_error(own: Mini, file: str) -> None:
    step = tuned(own)
    content = (own.folder(step) / file).read_bytes()
    (own.folder(step) / file).write_bytes(content[:-1] + bytes([content[-1] ^ 0xFF]))
    with pytest.raises(UserError, match=f"is damaged.*{file} differs from the digest.*Run its study again"):
        Classifier.load(own.store, step.ref)
    (own.folder(step) / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        Classifier.load(own.store, step.ref)


@pytest.mark.parametrize("stage", ["tokenizer", "task"])
def test_what_a_model_was_made_from_must_be_there(own: Mini, stage: str) -> None:
    step = only(own.plan, stage)
    own.store.delete(step.ref)
    with pytest.raises(UserError, match=f"{stage}/.* is missing"):
        Classifier.load(own.store, tuned(own).ref)


def test_members_must_know_the_same_labels_and_the_rule_must_exist(mini: Mini) -> None:
    classifier = Classifier.load(mini.store, tuned(mini).ref)
    with pytest.raises(UserError, match="other labels"):
        Committee((classifier, replace(classifier, labels=("land", "air"))))
    with pytest.raises(UserError, match="'loudest'.*'soft'"):
        Committee((classifier,), "loudest")
    with pytest.raises(UserError, match="needs a member"):
        Committee(())


# --- names ---


def test_a_model_answers_to_its_ref_its_slug_its_key_and_their_beginnings(mini: Mini) -> None:
    step = tuned(mini, treatment=None)
    for name in (str(step.ref), step.slug, f"finetune/{step.slug}", step.key, step.key[:8], step.slug[:-1]):
        assert find_classifiers(mini.store, [name]) == [step.ref], name


def test_several_names_make_a_committee_and_a_committee_stands_for_its_members(mini: Mini) -> None:
    one, other = tuned(mini), tuned(mini, ws=0)
    committee = only(mini.plan, "committee", ws=60)
    assert find_classifiers(mini.store, [other.slug, one.key]) == [other.ref, one.ref]
    members = [committee.inputs[name] for name in sorted(committee.inputs)]
    assert find_classifiers(mini.store, [committee.slug, other.slug]) == [*members, other.ref]
    with pytest.raises(UserError, match="twice"):
        find_classifiers(mini.store, [committee.slug, one.slug])


def test_a_slug_that_another_begins_with_is_no_ambiguity(mini: Mini) -> None:
    slugs = [s.slug for s in mini.plan.steps if s.stage == "finetune"]
    assert all(len(find_classifiers(mini.store, [slug])) == 1 for slug in slugs)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("finetune/topics-one", r"names 4 models.*finetune/topics-one-ws60-s0-p0-f0-\w{12}\."),
        ("topics", r"names \d+ models.*committee/topics-pair-ws0"),
        ("pretrain/one-ws60-s0-p0", r"knows no labels.*finetune/topics-one-ws60-s0-p0-f0-"),
        ("pretrain/one-ws120", r"knows no labels.*Fine-tune it first"),
        ("tokenizer/wordpiece", r"tokenizer/wordpiece-\w{12} tells no labels.*finetune/topics"),
        ("nothing", r"is named 'nothing'.*There are: .*committee/topics-pair.* and \d+ more"),
        ("", r"is named ''"),
    ],
)
def test_a_name_that_leads_to_no_model_says_which_there_are(mini: Mini, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        find_classifiers(mini.store, [name])
    assert "\n" not in str(raised.value)


def test_an_empty_store_says_how_to_fill_it(store: ArtifactStore) -> None:
    with pytest.raises(UserError, match="none yet.*tlm run demo"):
        find_classifiers(store, ["finetune/anything"])
