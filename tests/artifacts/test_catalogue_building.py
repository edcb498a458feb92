"""Building the catalogue: what is damaged is left out and named, and the old one stands until the new one does."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts.catalogued import ROOT, copy, flip_a_byte, part, path_of, store_of, value
from helpers import edit_record
from report.synthetic import publish, publish_step, study

from tlm.artifacts import catalogue, marts, sql_models
from tlm.artifacts.record import RECORD
from tlm.errors import UserError
from tlm.planning.plan import plan
from tlm.stages import STAGES


def test_stale_after_a_new_or_damaged_artifact(home: Path, tmp_path: Path) -> None:
    home = copy(home, tmp_path / "home")
    store = store_of(home)
    assert not catalogue.is_stale(store, path_of(home), STAGES)
    baseline = next(record for record in store.records() if record.stage == "baseline")
    os.remove(store.local_path(baseline, "predictions.parquet"))
    assert catalogue.is_stale(store, path_of(home), STAGES)
    catalogue.build(store, path_of(home), STAGES)
    assert value(home, "select count(*) from results where kind = 'baseline'") == 3


def test_what_contradicts_the_rest_is_left_out_and_named(home: Path, tmp_path: Path) -> None:
    planned = plan(study(home / "raw"), str(home / "raw"))
    home = part(home, tmp_path / "home")
    step = next(step for step in planned.steps if step.stage == "finetune")
    store_of(home).delete(step.ref)
    runs = len(list(store_of(home).records())) + 1
    publish_step(store_of(home), step, planned, facts={"test_accuracy": 0.95})
    left = catalogue.build(store_of(home), path_of(home), STAGES)
    assert list(left) == [str(step.ref)]
    assert f"check predictions_give_the_accuracy found {{'key': '{step.key}'" in left[str(step.ref)]
    assert catalogue.left_out(path_of(home)) == left
    assert value(home, "select count(*) from runs") == runs - 1
    assert not catalogue.is_stale(store_of(home), path_of(home), STAGES)
    assert sorted(path.name for path in path_of(home).parent.iterdir()) == [
        ".catalogue.duckdb.lock",
        "artifacts",
        "catalogue.duckdb",
    ]
    with pytest.raises(UserError, match=rf"{step.ref} cannot be used: .*`tlm invalidate {step.ref} --yes`"):
        marts.build_memory(store_of(home), store_of(home).records(), STAGES)


def test_every_absurd_record_is_left_out_and_named_and_all_others_are_shown(home: Path, tmp_path: Path) -> None:
    home = part(home, tmp_path / "home")
    records = list(store_of(home).records())
    absurd: dict[str, dict[str, object]] = {
        "finetune": {"labels": {"ws": 2**70}},
        "baseline": {"facts": {"test_accuracy": "high"}},
        "source": {"created": "2025-W01-1T00:00:00+00:00"},
        "task": {"provenance": {"git_dirty": "perhaps"}},
    }
    names = []
    for stage, changes in absurd.items():
        names.append(str(next(record for record in records if record.stage == stage).ref))
        edit_record(store_of(home).root / Path(names[-1]), **changes)
    assert sorted(catalogue.build(store_of(home), path_of(home), STAGES)) == sorted(names)
    assert value(home, "select count(*) from runs") == len(records) - len(names)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: edit_record(folder, sealed=False, seconds=9e9), "record.json was edited"),
        (lambda folder: (folder / RECORD).write_text("{}"), "record.json is not a record"),
        (lambda folder: (folder / "predictions.parquet").unlink(), "predictions.parquet is missing"),
        (lambda folder: flip_a_byte(folder / "predictions.parquet"), "predictions.parquet differs from the digest"),
        (lambda folder: shutil.copytree(folder, f"{folder}.bak"), "its record.json is that of "),
    ],
)
def test_what_is_damaged_is_left_out_and_named_until_it_is_mended(
    home: Path, tmp_path: Path, damage: Callable[[Path], object], says: str
) -> None:
    """A bit that flips in a table is seen once the catalogue is built: what it showed before is what was measured."""
    home = copy(home, tmp_path / "home")
    record = next(record for record in store_of(home).records() if record.stage == "baseline")
    folder = Path(store_of(home).root) / str(record.ref)
    shutil.copytree(folder, tmp_path / "whole")
    rows = catalogue.query(path_of(home), "select * from results").to_pylist()
    damage(folder)
    [(name, reason)] = catalogue.build(store_of(home), path_of(home), STAGES).items()
    assert name.startswith(str(record.ref)) and reason.startswith(says)
    shown = catalogue.query(path_of(home), "select * from results").to_pylist()
    assert shown == [row for row in rows if row["key"] != record.key or name != str(record.ref)]
    for left in folder.parent.glob(f"{folder.name}*"):
        shutil.rmtree(left)
    (tmp_path / "whole").rename(folder)
    assert catalogue.is_stale(store_of(home), path_of(home), STAGES)
    assert catalogue.build(store_of(home), path_of(home), STAGES) == {}
    assert catalogue.query(path_of(home), "select * from results").to_pylist() == rows


def test_models_of_corpora_that_are_left_out_are_not_taken_for_models_of_one(home: Path, tmp_path: Path) -> None:
    home = copy(home, tmp_path / "home")
    query = "select setting, pretrain_setting from gaps where kind in ('finetune', 'committee') order by all"
    before = len(catalogue.query(path_of(home), query).to_pylist())
    for stage in ("corpus", "inject", "pretrain"):
        shutil.rmtree(Path(store_of(home).root) / stage)
        catalogue.build(store_of(home), path_of(home), STAGES)
        assert len(catalogue.query(path_of(home), query).to_pylist()) >= before, stage
        assert value(home, "select count(*) from results where ws > 0 and pretrain_setting is null") == 0, stage
    step = next(
        record for record in store_of(home).records() if record.stage == "finetune" and record.labels["ws"] == 100
    )
    shutil.rmtree(Path(store_of(home).root) / str(step.ref))
    catalogue.build(store_of(home), path_of(home), STAGES)
    without = "select distinct key from results where kind = 'committee' and parameters is null"
    [key] = catalogue.query(path_of(home), without).column(0).to_pylist()
    assert value(home, "select count(*) from lineage where key = ? and input_key = ?", key, step.key) == 1


@pytest.mark.parametrize("how", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_stands_in_the_catalogues_place_gives_way(
    home: Path, tmp_path: Path, how: Callable[[Path], object]
) -> None:
    home = copy(home, tmp_path / "home")
    path_of(home).unlink()
    how(path_of(home))
    assert catalogue.is_stale(store_of(home), path_of(home), STAGES)
    catalogue.build(store_of(home), path_of(home), STAGES)
    assert value(home, "select count(*) from runs")


def test_a_damaged_catalogue_is_told_from_wrong_sql(home: Path, tmp_path: Path) -> None:
    """DuckDB sees it when it reads the block: each has a checksum."""
    with pytest.raises(UserError) as wrong:
        catalogue.query(path_of(home), "selec 1")
    assert not isinstance(wrong.value, catalogue.CatalogueDamaged)
    home = copy(home, tmp_path / "home")
    content = bytearray(path_of(home).read_bytes())
    for place in range(4 * 4096, len(content), 4096):
        content[place] ^= 1
    path_of(home).write_bytes(content)
    with pytest.raises(catalogue.CatalogueDamaged, match="Delete it: it can be rebuilt"):
        for mart in marts.MARTS:
            catalogue.query(path_of(home), f"select * from {mart}")


def test_a_table_of_anothers_making_is_left_out_and_named(home: Path, tmp_path: Path) -> None:
    """Its record has the digest of what is no Parquet file."""
    place = sorted((home / "data/artifacts/overlap").iterdir())[0]
    home = part(home, tmp_path / "home")
    shutil.copytree(place, home / "data/artifacts/overlap" / place.name)
    record = next(record for record in store_of(home).records() if record.stage == "overlap")
    folder = Path(store_of(home).root) / str(record.ref)
    (folder / "overlap.parquet").write_bytes(b"\0" * 100)
    outputs = {name: output.model_dump() for name, output in record.outputs.items()}
    outputs["overlap.parquet"] = {"sha256": hashlib.sha256(b"\0" * 100).hexdigest(), "bytes": 100}
    edit_record(folder, outputs=outputs)
    [(name, reason)] = catalogue.build(store_of(home), path_of(home), STAGES).items()
    assert name == str(record.ref) and "overlap.parquet" in reason and "\n" not in reason


def test_a_model_in_foreign_bytes_is_an_error_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "mine.sql").write_bytes("select 'für'".encode("latin-1"))
    monkeypatch.setattr(sql_models, "sql_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"Cannot read .*mine\.sql: byte 9 is not UTF-8\."):
        sql_models.ready_query("mine")


def building(home: Path, before: str = "") -> subprocess.Popen[bytes]:
    """Another process that builds the catalogue of a home, once it has done something else."""
    code = (
        f"{before}\nimport sys; from pathlib import Path; from tlm.artifacts import catalogue\n"
        "from tlm.artifacts.store import ArtifactStore; from tlm.stages import STAGES\n"
        "catalogue.build(ArtifactStore(sys.argv[1]), Path(sys.argv[2]), STAGES)"
    )
    return subprocess.Popen([sys.executable, "-c", code, f"{home}/data/artifacts", str(path_of(home))], cwd=ROOT)


@pytest.mark.slow
def test_concurrent_builds_while_a_reader_holds_the_file(home: Path, tmp_path: Path) -> None:
    home = copy(home, tmp_path / "home")
    with catalogue.connect(path_of(home)) as reader:
        before = reader.execute("select count(*) from results").fetchone()
        publish(study(home / "raw", finetune_seeds=(0, 1, 2)), store_of(home), home / "raw")
        builders = [building(home) for _ in range(3)]
        assert [builder.wait(120) for builder in builders] == [0, 0, 0]
        assert reader.execute("select count(*) from results").fetchone() == before
        assert (value(home, "select count(*) from results"),) > (before or ())
    assert not catalogue.is_stale(store_of(home), path_of(home), STAGES)


def test_a_killed_build_leaves_the_old_catalogue(home: Path, tmp_path: Path) -> None:
    home = copy(home, tmp_path / "home")
    before = path_of(home).read_bytes()
    builder = building(
        home, "import time; from tlm.artifacts import marts; marts._check = lambda connection: time.sleep(60)"
    )
    deadline = time.monotonic() + 30
    while not list(path_of(home).parent.glob(".catalogue.duckdb-*/*.duckdb")) and time.monotonic() < deadline:
        time.sleep(0.05)
    builder.kill()
    builder.wait(30)
    assert path_of(home).read_bytes() == before
    catalogue.build(store_of(home), path_of(home), STAGES)
    assert not list(path_of(home).parent.glob(".catalogue.duckdb-*"))
