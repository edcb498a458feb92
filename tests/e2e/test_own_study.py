"""A user's own study on files that tlm has never seen: their table as the task, their folder of texts as the corpus."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from helpers import sentence
from project import Project

from tlm.report.formatting import escape_markdown
from tlm.report.matrix import MARKS
from tlm.report.saved import FINDINGS_FILE, load_findings

pytestmark = pytest.mark.slow

CLASSES = {"sea": "Meer, Küste", "land": 'Land "und" Feld'}
"""As the labels stand in the table: with commas, quotes and letters beyond ASCII."""


def _write_table(place: Path, generator: random.Random) -> None:
    """Columns of other names and one too many; texts with commas, quotes and line breaks."""
    rows = [
        (f"{topic}-{n}", CLASSES[topic], f'„{sentence(generator, topic)}", says Zoë,\n{sentence(generator, topic)}')
        for n in range(30)
        for topic in CLASSES
    ]
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("number", "Thema", "note, as written"), *rows])


def _write_texts(folder: Path, generator: random.Random) -> int:
    """Four files of paragraphs between blank lines, some over two lines; returns how many paragraphs."""
    folder.mkdir(parents=True)
    for number in range(4):
        paragraphs = [
            f"{sentence(generator, topic)}\n{sentence(generator, topic)}" if n % 3 else sentence(generator, topic)
            for n in range(25)
            for topic in CLASSES
        ]
        (folder / f"Teil {number} – ä.txt").write_text("\n\n\n".join(paragraphs) + "\n", encoding="utf-8")
    return 4 * 25 * len(CLASSES)


def own_study() -> dict[str, Any]:
    """What a user writes; everything else is left at its default."""
    return {
        "name": "my_notes",
        "title": "Übt sich's mit eigenen Texten?",
        "analysis": "ws-sweep",
        "corpus": {"source": {"kind": "files", "format": "text", "path": "my texts"}, "sizes": [0, 60], "heldout": 20},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 300},
        "max_length": 24,
        "architectures": [{"variant": "bert1", "head_size": 4, "num_attention_heads": 2}],
        "tasks": [
            {
                "name": "notes",
                "source": {
                    "kind": "files",
                    "format": "csv",
                    "path": "tables/my notes.csv",
                    "text_column": "note, as written",
                    "label_column": "Thema",
                },
                "train_per_label": 12,
                "dev_per_label": 4,
                "test_per_label": 10,
            }
        ],
        "pretrain": {"steps": 6, "batch_size": 8},
        "finetune": {"epochs": 2, "batch_size": 8},
        "finetune_seeds": [0, 1],
        "treatments": [
            {"kind": "sampled", "task": "notes", "ws": 50, "sampler": "coverage"},
            {"kind": "shuffled", "ws": 60, "scope": "sentence"},
        ],
    }


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The study, run."""
    folder = tmp_path_factory.mktemp("own")
    generator = random.Random(3)
    _write_table(folder / "data/tables/my notes.csv", generator)
    assert _write_texts(folder / "data/my texts", generator) == 200
    (folder / "study.yaml").write_text(yaml.safe_dump(own_study(), allow_unicode=True), encoding="utf-8")
    project = Project(folder)
    output = project.tlm("run", "study.yaml")
    assert (
        "tokens/files-my-texts: all " in output and "of the letters are unknown to the tokenizer, most often" in output
    )
    assert "notes" in output and "coverage" in output and "shuffled-sentence" in output
    return project


def test_every_row_and_every_paragraph_is_read_as_it_was_written(own: Project) -> None:
    table, texts = (pd.read_parquet(own.path(own.record("source", part), "rows.parquet")) for part in ("notes", "text"))
    assert len(table) == 60 and len(texts) == 200
    assert own.record("source", "notes").facts["label_names"] == sorted(CLASSES.values())
    assert table["text"].str.startswith("„").all() and table["text"].str.contains("says Zoë,").all()
    assert table["label"].value_counts().to_list() == [30, 30]


def test_each_pre_training_set_is_trained_on_and_measured(own: Project) -> None:
    measured = {
        (record.labels["ws"], record.labels["treatment"], record.labels["finetune_seed"])
        for record in own.store.records()
        if record.stage == "finetune"
    }
    sets = {(0, None), (60, None), (50, "coverage"), (60, "shuffled-sentence")}
    assert measured == {(ws, treatment, seed) for ws, treatment in sets for seed in (0, 1)}


def test_everything_is_cached_afterwards(own: Project) -> None:
    records = len(own.records())
    assert f"{records} steps: {records} cached, 0 to run." in own.tlm("plan", "study.yaml", "--no-time")
    said = own.tlm("run", "study.yaml")
    assert "0 stages executed" in said and "tlm explain study.yaml --against my_notes --set finetune.epochs=3" in said
    assert "are the same" in own.tlm("explain", "study.yaml", "--against", "my_notes", "--set", "finetune.epochs=3")


def test_its_question_is_answered_in_the_results(own: Project) -> None:
    said = own.tlm("report", "--out", "results.md")
    assert said.startswith("my_notes: ")
    text = (own.folder / "results.md").read_text(encoding="utf-8")
    assert "Pre-training on 60 paragraphs helps bert1" in text and "\n## my_notes\n" in text
    assert str(own.folder) not in text and "http" not in text
    plots = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert plots and all((own.folder / plot).read_bytes().startswith(b"\x89PNG") for plot in plots)


def test_terminal_mlflow_and_document_show_the_verdicts_of_the_report_s_file(own: Project) -> None:
    from mlflow import MlflowClient

    path = own.path(own.record("report"), FINDINGS_FILE)
    verdicts = load_findings(path).verdicts
    said, document = own.tlm("run", "study.yaml"), own.folder / "again.md"
    own.tlm("report", "--out", str(document))
    client = MlflowClient(tracking_uri=f"sqlite:///{own.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    [experiment] = client.search_experiments(filter_string="name = 'tlm'")
    runs = client.search_runs([experiment.experiment_id], "tags.study = 'my_notes'")
    run = next(run for run in runs if "stage" not in run.data.tags)
    logged = client.download_artifacts(run.info.run_id, FINDINGS_FILE)
    assert Path(logged).read_bytes() == path.read_bytes()
    assert verdicts
    for verdict in verdicts:
        line = f"{verdict.claim}: {verdict.figure}"
        assert line in " ".join(said.split()) and line in run.data.tags["mlflow.note.content"]
        assert f"| {MARKS[verdict.outcome]} {escape_markdown(verdict.figure)} |" in document.read_text(encoding="utf-8")


def test_new_texts_get_the_labels_of_the_table(own: Project) -> None:
    said = own.tlm("predict", "finetune/notes-bert1-ws60-s0-p0-f0", "--text", "Ein Schiff, ein Hafen.")
    assert any(label in said for label in CLASSES.values())
