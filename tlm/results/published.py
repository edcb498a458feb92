"""Published results: the packed marts of studies that have run, small Parquet files that their answers are found in again.

A study's folder holds the tables of `tlm.report.packed` and `study.parquet`: its fields, and where its report is from. It
is written and replaced whole, so that studies of several homes lie side by side.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from tlm.artifacts.marts import Connection
from tlm.artifacts.store import Artifact
from tlm.errors import UserError
from tlm.report.evidence import NULLS, Evidence
from tlm.report.packed import ALONE, LATER, LATER_COLUMNS, SCHEMAS, save_packed, unpacked
from tlm.report.saved import MARTS_FOLDER, SavedPlot, plot_file, to_save
from tlm.results import ANALYSES, find
from tlm.results.answers import OTHER_FIELDS, Answered, Answers, CommandOf, in_order, is_current, name_of
from tlm.study.base import slugify
from tlm.study.config import StudyConfig

FOLDER = "published"
"""Beside the document."""
STUDY = "study"
STUDY_SCHEMA = pa.schema(
    [("study", pa.string()), ("report_key", pa.string()), ("created", pa.string()), ("git_commit", pa.string()),
     ("mlflow_run_id", pa.string()), ("mlflow_experiment_id", pa.string())]
)  # fmt: skip
"""Of `study.parquet`, one row: the study as JSON, and the key, time, commit and MLflow run of its report."""
MOST_BYTES = 64 * 1024**2
"""Of a file, and of what it holds: a published study has a hundredth of it."""
EXACT = 1e-9
RUN_AGAIN = "Run the study again."


@dataclass(frozen=True)
class Published:
    """One study's folder, read and checked."""

    study: StudyConfig
    run_id: str | None
    tables: dict[str, pa.Table]

    def open(self) -> Connection:
        """Its marts; the caller closes them."""
        return unpacked(self.tables)


# --- writing ---


def publish(report: Artifact, study: StudyConfig, folder: Path) -> Path:
    """Write a study's folder from its report, in place of the one that is there.

    Returns:
        The folder of the study.

    Raises:
        UserError: if the report has no marts, or they contradict each other.
    """
    record = report.record
    needed = [f"{MARTS_FOLDER}/{name}.parquet" for name in SCHEMAS if name not in LATER]
    marts = [*needed, *(file for name in LATER if (file := f"{MARTS_FOLDER}/{name}.parquet") in record.outputs)]
    if not {*needed} <= record.outputs.keys():
        raise UserError(f"{record.ref} was written by an older version, without marts.", RUN_AGAIN)
    mlflow = record.mlflow or {}
    row = {
        "study": study.model_dump_json(),
        "report_key": record.key,
        "created": record.created,
        "git_commit": record.provenance.get("git_commit"),
        "mlflow_run_id": mlflow.get("run_id"),
        "mlflow_experiment_id": mlflow.get("experiment_id"),
    }
    place = folder / slugify(name_of(study))
    draft, before = (place.with_name(f".{place.name}.{which}") for which in ("draft", "before"))
    _settle(place, before)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        save_packed({**_read_tables(report.folder(marts)), STUDY: pa.Table.from_pylist([row], STUDY_SCHEMA)}, draft)
        load(draft)
        if place.is_dir():
            os.replace(place, before)
        os.replace(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        _settle(place, before)
    return place


def _settle(place: Path, before: Path) -> None:
    """What was set aside for a new folder goes once that is there, and comes back where it is not."""
    if before.is_dir() and not place.is_dir():
        os.replace(before, place)
    shutil.rmtree(before, ignore_errors=True)


# --- reading ---


def folders(folder: Path) -> list[Path]:
    """Of the studies that are published there, by name."""
    return sorted(path.parent for path in folder.glob(f"[!.]*/{STUDY}.parquet"))


def load(place: Path) -> Published:
    """Read a study's folder: Parquet alone, of just the columns that it has to have.

    Raises:
        UserError: naming the file, if one is missing, damaged, too large or of other columns, or contradicts another.
    """
    about = _read(place / f"{STUDY}.parquet", STUDY_SCHEMA)
    if about.num_rows != 1:
        raise UserError(f"{place / STUDY}.parquet has {about.num_rows} rows, and one is needed.", _again(place))
    (row,) = about.to_pylist()
    try:
        study = StudyConfig.model_validate_json(row["study"])
    except ValidationError as error:
        raise UserError(
            f"{place / STUDY}.parquet holds a study that this version does not know: {error.errors()[0]['msg']}.",
            _again(place),
        ) from error
    if slugify(name_of(study)) not in (place.name, _drafted(place)):
        raise UserError(f"{place} holds {name_of(study)}.", "Call the folder what the study is called.")
    tables = _read_tables(place)
    if problem := next(_contradictions(tables), None):
        raise UserError(f"{place}: {problem}.", _again(place))
    return Published(study, row["mlflow_run_id"], tables)


def answers(folder: Path, command_of: CommandOf) -> Answers:
    """What the published studies find, by their analyses as they are now; plots are drawn when they are asked for.

    Raises:
        UserError: as `load`.
    """
    found: dict[tuple[int, int, str], Answered] = {}
    left_out: dict[str, str] = {}
    for place in folders(folder):
        published = load(place)
        study = published.study
        if study.analysis not in ANALYSES or not is_current(study.model_dump(mode="json"), command_of):
            left_out[place.name] = OTHER_FIELDS
            continue
        found[in_order(study.scale, str(study.analysis), study.name)] = _answer(published, str(command_of(study)))
    return Answers([found[place] for place in sorted(found)], left_out, "is published", "Try: tlm publish")


def _answer(published: Published, command: str) -> Answered:
    with published.open() as connection:
        evidence = Evidence(connection, published.study)
        findings = find(evidence)
        saved = to_save(findings, evidence)
    drawn = {plot_file(plot): plot for plot in findings.plots}

    def image(plot: SavedPlot) -> bytes:
        return drawn[plot.file].png

    return Answered(published.study, saved, command, published.run_id, image)


def differences(studies: Mapping[str, Published]) -> list[str]:
    """Where studies of one scale set other things beside each other under one name, a sentence for each.

    What is compared is the mart's `setting` of each system on each task, and the `pretrain_setting` of each at each
    untreated Ws: sources, vocabulary, training and precision, without seeds.
    """
    seen: dict[tuple[str | None, str], tuple[str, str]] = {}
    found: dict[str, None] = {}
    for name, each in studies.items():
        for row in each.tables["results"].to_pylist():
            if row["kind"] != "finetune":
                continue
            settings = {f"{row['system']} on {row['task']}": row["setting"]}
            if row["ws"] and row["treatment"] is None:
                settings[f"the pre-training of {row['system']} with Ws = {row['ws']:,}"] = row["pretrain_setting"]
            for what, setting in settings.items():
                other, before = seen.setdefault((each.study.scale, what), (name, setting))
                if before != setting:
                    found[
                        f"{what} is not the same in {other} and in {name}: sources, vocabulary, training or precision"
                    ] = None
    return list(found)


# --- inside ---


def _read_tables(place: Path) -> dict[str, pa.Table]:
    """Of `LATER`, one that is not there is empty."""
    files = {name: place / f"{name}.parquet" for name in SCHEMAS}
    return {
        name: SCHEMAS[name].empty_table() if name in LATER and not file.exists() else _read(file, SCHEMAS[name])
        for name, file in files.items()
    }


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(
                f"{path} has {path.stat().st_size:,} bytes, and no published table has so many.", _again(path.parent)
            )
        with pq.ParquetFile(path) as file:
            held = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
            if held > MOST_BYTES:
                raise UserError(
                    f"{path} holds {held:,} bytes, and no published table has so many.", _again(path.parent)
                )
            lacks = {*LATER_COLUMNS.get(path.stem, ())} - {*file.schema_arrow.names}
            if not file.schema_arrow.equals(pa.schema([field for field in schema if field.name not in lacks])):
                raise UserError(
                    f"{path} has other columns: {_difference(file.schema_arrow, schema)}.", _again(path.parent)
                )
            return _completed(file.read(), schema)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}.", _again(path.parent)) from error


def _completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with nulls in the columns that it lacks."""
    nulls = {field.name: pa.nulls(len(table), field.type) for field in schema if field.name not in table.column_names}
    return pa.table([nulls[name] if name in nulls else table[name] for name in schema.names], schema=schema)


def _drafted(place: Path) -> str:
    """The name that a draft will have."""
    return place.name.removeprefix(".").removesuffix(".draft")


def _difference(found: pa.Schema, wanted: pa.Schema) -> str:
    for field in wanted:
        if field.name not in found.names:
            return f"no {field.name}"
        if found.field(field.name).type != field.type:
            return f"{field.name} is {found.field(field.name).type}, not {field.type}"
    more = [name for name in found.names if name not in wanted.names]
    return f"{more[0]} is not one of them" if more else "they stand in another order"


def _again(place: Path) -> str:
    return RUN_AGAIN if place.name == MARTS_FOLDER else f"Publish the study again: tlm publish {place.name}"


def _contradictions(tables: Mapping[str, pa.Table]) -> Iterator[str]:
    """What cannot be: as many items as its task does not have, a result without items or with another accuracy, a unit of a
    benchmark without a score."""
    for row in tables["likelihood"].to_pylist():
        for name in ("model", *NULLS):
            if len(row[name] or ()) != len(row["unit"] or ()) or None in (row[name] or ()):
                yield f"likelihood has {len(row['unit'] or ())} units of {row['key']}, and not as many numbers of {name}"
    counts = {row["values"]: row["counts"] for row in pc.value_counts(tables["items"]["task"]).to_pylist()}
    task_of = dict(zip(*(tables["results"][name].to_pylist() for name in ("key", "task")), strict=True))
    accuracy_of = {
        row["key"]: row["accuracy"]
        for row in tables["results"].select(["key", "kind", "accuracy"]).to_pylist()
        if row["kind"] in ALONE
    }
    listed = {name: tables[name] for name in ("correct", "committee_instances", "near_duplicates")}
    for name, table in listed.items():
        column = "held" if name == "near_duplicates" else "correct"
        tasks = (
            [task_of.get(key) for key in table["key"].to_pylist()] if name == "correct" else table["task"].to_pylist()
        )
        lengths = pc.list_value_length(table[column]).to_pylist()
        for key, task, length in zip(table["key"].to_pylist(), tasks, lengths, strict=True):
            if task not in counts or length != counts[task]:
                yield f"{name} has {length} items of {key}, and its task {task} has {counts.get(task, 0)}"
    right = dict(zip(tables["correct"]["key"].to_pylist(), tables["correct"]["correct"], strict=True))
    if missing := accuracy_of.keys() - right.keys():
        yield f"correct lacks {min(missing)}"
    for key, accuracy in accuracy_of.items():
        share = pc.mean(right[key].values).as_py()
        if abs(share - accuracy) > EXACT:
            yield f"{key} is right on {100 * share:.2f} % of its items, and its accuracy is {100 * accuracy:.2f} %"
