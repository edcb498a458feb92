"""The quickstart on its real data, cut to minutes: every stage and every source, none of the accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from project import Project
from shell import real_data_root

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not real_data_root(), reason="TLM_DATA_ROOT is not set"),
]


def test_the_quickstart_goes_through_every_stage_on_real_data(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(real_data_root())
    project = Project(tmp_path)
    small = [f"tasks.{t}.{f}={n}" for t in ("fewrel", "agnews", "dbpedia") for f, n in SIZES.items()]
    changes = ["corpus.sizes=[0, 800]", "pretrain.steps=10", "finetune.epochs=1", "treatments.0.ws=800", *small]
    study = yaml.safe_load(
        project.tlm("show", "quickstart", *(part for change in changes for part in ("--set", change)))
    )
    # Two models of it go through as many stages as four.
    study["architectures"] = [a for a in study["architectures"] if a["name"] in ("bert6", "bert1")]
    study["committees"] = [{"name": "both", "members": ["bert6", "bert1"]}]
    (tmp_path / "smaller.yaml").write_text(yaml.safe_dump(study))
    output = project.tlm("run", "smaller.yaml")
    assert "fewrel" in output and "agnews" in output and "dbpedia" in output
    overlap = project.record("overlap", "dbpedia-ws800-s0").facts
    injected = project.record("overlap", "dbpedia-ws800-dbpedia").facts
    removed = project.record("inject").facts["removed"]
    assert injected["common_types"] == overlap["common_types"] - removed
    assert 0 < overlap["type_overlap"] < 1
    tfidf = {r.labels["task"]: r.facts["test_accuracy"] for r in project.store.records() if "tfidf" in r.slug}
    assert all(accuracy > 0.3 for accuracy in tfidf.values()), tfidf


SIZES = {"train_per_label": 20, "dev_per_label": 5, "test_per_label": 10}
