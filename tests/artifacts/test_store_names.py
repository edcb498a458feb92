"""Names that come from elsewhere lead nowhere but into the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from artifacts.some_rows import a_step, publish
from pydantic import ValidationError

from tlm.artifacts.housekeeping import select
from tlm.artifacts.record import RECORD, Record
from tlm.artifacts.step import ArtifactRef, Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError

HOSTILE = ("", "..", "../x", "a/b", "/tmp/x", "a\\b", "a b", "A", "a\n", "a\0", "ä", "x" * 300)
GOOD_REF = {"stage": "source", "slug": "rows", "key": "0" * 64}


@pytest.mark.parametrize(
    ("field", "value"),
    [  # a slug stands before a dash and a key: "" and ".." make a plain folder there
        *(("slug", value) for value in HOSTILE if value not in ("", "..")),
        *((field, value) for field in ("stage", "key") for value in HOSTILE),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_in_no_reference_step_or_record(
    store: ArtifactStore, field: str, value: str
) -> None:
    record = publish(store, a_step()).model_dump()
    step = a_step().model_dump()
    bad = {**GOOD_REF, field: value}
    for model, fields in (
        (ArtifactRef, bad),
        (Record, {**record, field: value}),
        (Record, {**record, "inputs": {"rows": bad}}),
        (Step, {**step, "inputs": {"rows": bad}}),
        *(() if field == "key" else ((Step, {**step, field: value}),)),
    ):
        with pytest.raises(ValidationError):
            model.model_validate(fields)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/tmp/x", "//x", "a/../../x", "a//b", "./a", "a/", RECORD, "a\0"]
)
def test_an_output_that_leads_outside_is_in_no_record(store: ArtifactStore, name: str) -> None:
    record = publish(store, a_step()).model_dump()
    record["outputs"][name] = record["outputs"].pop("rows.bin")
    with pytest.raises(ValidationError, match="leads outside"):
        Record.model_validate(record)


@pytest.mark.parametrize("field", ["stage", "slug", "key"])
def test_invalidating_a_hostile_record_removes_nothing_outside_the_store(store: ArtifactStore, field: str) -> None:
    record = publish(store, a_step())
    outside = Path(store.root).parent / f"victim-{record.key[:12]}"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    place = Path(store.root) / str(record.ref) / RECORD
    place.write_text(json.dumps({**json.loads(place.read_text()), field: "../../victim"}), encoding="utf-8")
    with pytest.raises(UserError, match="No artifact matches"):
        select(store, record.key)
    assert store.inspect(record.ref).reason.startswith(f"{RECORD} is not a record ({field}: ")
    store.delete(record.ref)
    assert not place.exists() and (outside / "kept.txt").read_text() == "kept"


def test_deleting_a_linked_artifact_removes_the_link_alone(store: ArtifactStore, tmp_path: Path) -> None:
    record = publish(store, a_step())
    place = Path(store.root) / str(record.ref)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert store.delete(record.ref) and not place.is_symlink()
    assert (tmp_path / "elsewhere" / RECORD).exists()
