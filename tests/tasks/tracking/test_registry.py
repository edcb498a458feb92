"""What MLflow serves of a study answers as `tlm predict` does, was chosen by dev accuracy, and can be made again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers import Mini
from tracked_home import Home

from tasks.tracking.registry import chosen
from tlm.artifacts.record import Record
from tlm.inference.models import Committee
from tlm.inference.resolve import find_classifiers
from tlm.machine.runtime import Runtime

TEXTS = ["the old ship near a harbour", "every farmer saw wheat", "a harbour"]


def records_of(mini: Mini) -> list[Record]:
    return [mini.store.get(step.ref).record for step in mini.plan.steps if step.stage != "report"]


def test_the_best_is_so_by_dev_accuracy_and_never_by_test_accuracy(mini: Mini) -> None:
    finetuned = [record for record in records_of(mini) if record.stage == "finetune"]
    for best in finetuned[:3]:
        changed = [
            record.model_copy(
                update={
                    "facts": {
                        **record.facts,
                        "dev_accuracy": float(record is best),
                        "test_accuracy": float(record is not best),
                    }
                }
            )
            for record in finetuned
        ]
        [(task, kind, found)] = chosen(changed)
        assert (task, kind, found.key) == (best.labels["task"], "single", best.key)
    assert not [*chosen(record.model_copy(update={"left_behind": record.outputs}) for record in finetuned)]


@pytest.mark.slow  # importing MLflow takes seconds
def test_what_is_served_answers_as_tlm_predict_does(
    own: Mini, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    from tasks.tracking.rebuilding import track

    place = own.runtime.model_copy(update={"tracking_uri": f"sqlite:///{runtime.mlflow_folder / 'mlflow.db'}"})
    home = Home(place)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    track(place)
    names = sorted(model.name for model in home.client.search_registered_models())
    assert names == ["mini.topics.committee", "mini.topics.single"]
    picked = {kind: record for _, kind, record in chosen(records_of(own))}
    assert not [*Path().iterdir()], "whoever registers leaves no database where the user stands"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(place.tracking_uri))
    for name in names:
        served = mlflow.pyfunc.load_model(f"models:/{name}/1")
        known = Committee.load(own.store, find_classifiers(own.store, [str(picked[name.split(".")[-1]].ref)]))
        predicted = known.predict(TEXTS)
        answers = served.predict(pd.DataFrame({"text": TEXTS}))
        assert answers["label"].tolist() == [known.labels[best] for best in predicted.best()[:, 0]]
        assert answers["probability"].tolist() == pytest.approx(predicted.probabilities_NC.max(axis=1).tolist())
        assert all(sum(row.values()) == pytest.approx(1) for row in answers["probabilities"])
        with pytest.raises(MlflowException, match="text"):  # in one line, which a server answers with
            served.predict(pd.DataFrame({"text": ["a ship", ""]}))
        assert list(served.metadata.get_input_schema().input_names()) == ["text"]
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1"))
        assert not [*folder.rglob("*.pkl")] and [*folder.rglob("served.py")]
    track(place)
    assert all(len(home.client.search_model_versions(f"name = '{name}'")) == 1 for name in names)
