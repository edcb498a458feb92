"""What is damaged is named on the terminal with the way out, and everything else is answered."""

from __future__ import annotations

import pytest
from helpers import Mini, Tlm, command_line, edit_record, only, unseal

from tlm.artifacts.record import RECORD, SEAL


@pytest.fixture
def tlm(own: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    monkeypatch.setenv("TLM_HOME", own.runtime.home)
    return command_line(monkeypatch, capsys)


def damage(mini: Mini, stage: str = "baseline", **labels: object) -> str:
    """Edit the record of an artifact; its name."""
    step = only(mini.plan, stage, **(labels or {"baseline": "majority"}))
    edit_record(mini.folder(step), sealed=False, seconds=9e9)
    return str(step.ref)


def test_verify_names_what_is_not_whole(own: Mini, tlm: Tlm) -> None:
    whole = len(own.plan.steps)
    said = tlm("verify")
    assert (said.code, said.out) == (0, f"{whole} artifacts are whole, 0 are not.\n")
    edited, missing = damage(own), only(own.plan, "tokenizer")
    (own.folder(missing) / "vocab.txt").unlink()
    said = tlm("verify")
    assert said.code == 1 and said.out.splitlines() == [
        f"damaged {edited}: record.json was edited: it differs from its own digest",
        f"damaged {missing.ref}: vocab.txt is missing",
        f"{whole - 2} artifacts are whole, 2 are not.",
        "A run makes again what it needs; `tlm invalidate NAME --yes` removes one.",
    ]


def test_verify_seals_records_from_before_and_says_so(own: Mini, tlm: Tlm) -> None:
    folders = [own.folder(step) for step in own.plan.steps]
    for folder in folders:
        unseal(folder)
    assert f"{len(folders)} records were made before records had a digest of their own" in tlm("verify").out
    assert all(SEAL in (folder / RECORD).read_text() for folder in folders)
    assert "before" not in tlm("verify").out


def test_a_query_is_answered_and_what_is_left_out_is_named_beside_it(own: Mini, tlm: Tlm) -> None:
    counts = "select count(*) as n from runs where stage = 'baseline'"
    assert tlm("sql", counts).out.split() == ['"n"', "2"]
    name = damage(own)
    for _ in range(2):  # the second time the catalogue is not built anew
        said = tlm("sql", counts)
        assert (said.code, said.out.split()) == (0, ['"n"', "1"])
        assert said.err.startswith(f"left out: {name}: record.json was edited") and "`tlm invalidate NAME" in said.err
    said = tlm("catalogue")
    assert said.code == 0 and f"left out: {name}" in said.err
    own.run()
    said = tlm("sql", counts)
    assert (said.out.split(), said.err) == (['"n"', "2"], "")


def test_a_damaged_catalogue_is_built_again(own: Mini, tlm: Tlm) -> None:
    assert tlm("sql", "select 1 as one").code == 0
    content = bytearray(own.runtime.catalogue.read_bytes())
    for place in range(4 * 4096, len(content), 4096):
        content[place] ^= 1
    own.runtime.catalogue.write_bytes(content)
    said = tlm("sql", "select count(*) as n from runs")
    assert (said.code, said.out.split()) == (0, ['"n"', str(len(own.plan.steps))]), said


@pytest.mark.parametrize("selector", ["baseline", "baseline/topics-majority", "{name}", "{key}"])
def test_what_has_no_record_to_be_believed_can_be_removed_too(own: Mini, tlm: Tlm, selector: str) -> None:
    name = damage(own)
    chosen = selector.format(name=name, key=name[-12:])
    folder = own.folder(only(own.plan, "baseline", baseline="majority"))
    assert f"would remove {name}\n" in tlm("invalidate", chosen).out and folder.exists()
    assert f"removed {name}\n" in tlm("invalidate", chosen, "--yes").out and not folder.exists()


def test_what_a_damaged_report_was_made_from_is_not_garbage(own: Mini, tlm: Tlm) -> None:
    name = str(own.plan.report.ref)
    edit_record(own.folder(own.plan.report), sealed=False, seconds=9e9)
    said = tlm("gc", "--keep-hours", "0", "--yes")
    assert said.code == 2 and said.err.startswith(f"error: {name} is damaged (record.json was edited")
    assert f"`tlm invalidate {name} --yes`" in said.err and said.err.count("\n") == 1
    assert len(list(own.store.records())) == len(own.plan.steps) - 1


def test_a_model_that_is_damaged_is_named_and_not_said_to_be_unknown(own: Mini, tlm: Tlm) -> None:
    name = damage(own, "finetune", ws=60, arch="one", treatment=None)
    said = tlm("predict", name, "--text", "a ship")
    assert said.code == 2 and said.err.startswith(f"error: {name} is damaged (record.json was edited")
