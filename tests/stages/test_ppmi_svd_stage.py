"""Word vectors as a stage: what begins with them, in a study that is run."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import mini_study, only, write_mini_data

from tlm.artifacts.marts import build_memory
from tlm.artifacts.store import ArtifactStore
from tlm.data.ragged import Ragged
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.report.evidence import Evidence
from tlm.report.study_systems import svd_only
from tlm.report.tables import gap_table, results_table
from tlm.stages import STAGES


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, ArtifactStore]:
    """One architecture at Ws 0 and 60 by the modern recipe, which has vectors and the arm beside them; no report."""
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    changes = {
        "architectures": [{"name": "one", **small}],
        "treatment_architectures": None,
        "corpus__sizes": [0, 60],
        "treatments": [],
    }
    mini_data = write_mini_data(tmp_path_factory.mktemp("raw"))
    planned = plan(mini_study(**changes, committees=[], recipe="modern"), str(mini_data))
    home = tmp_path_factory.mktemp("home")
    runtime = Runtime(home=str(home), data_root=str(mini_data), isolate=False)
    for step in planned.steps[:-1]:
        execute(step, runtime)
    return planned, ArtifactStore(runtime.artifacts)


def test_the_vectors_are_those_of_the_pretraining_set_alone(ran: tuple[Plan, ArtifactStore]) -> None:
    planned, store = ran
    step = only(planned, "ppmi_svd", ws=60)
    made = store.get(step.ref)
    vectors = np.load(made.path("vectors.npy"), allow_pickle=False)
    corpus = store.get(step.inputs["corpus"])
    seen = Ragged.load(corpus.path("tokens.ids.npy"), corpus.path("tokens.offsets.npy"))
    assert set(np.flatnonzero(vectors.any(axis=1))) == set(np.unique(seen.ids))
    assert vectors.shape[1] == 16 and made.record.facts["known"] == len(np.unique(seen.ids))


def test_the_arm_is_a_system_of_its_own_in_marts_and_tables(ran: tuple[Plan, ArtifactStore]) -> None:
    planned, store = ran
    with build_memory(store, list(store.records()), STAGES) as connection:
        found = connection.sql(
            "select system, init, ws, corpus_key, type_overlap > 0 from results where kind = 'finetune'"
        )
        corpus = only(planned, "corpus", ws=60).key
        assert set(found.fetchall()) == {
            ("one", "scratch", 0, None, None),
            ("one", "pretrained", 60, corpus, True),
            (svd_only("one"), "svd", 60, corpus, True),
        }
        evidence = Evidence(connection, planned.study)
        gap = evidence.gaps.find(system=svd_only("one"), ws=60)
        scratch, svd, both = (
            float(evidence.correct("topics", *at).mean())  # type: ignore[union-attr]
            for at in (("one", 0), (svd_only("one"), 60), ("one", 60))
        )
        assert gap is not None and gap["gap"] == pytest.approx(svd - scratch)
        table = gap_table(evidence, "topics")
        assert table.columns == ("Ws", "one", "one, SVD only", "one over SVD only")
        assert table.rows[0][-1].text.startswith(f"{100 * (both - svd):+.1f}".replace("-", "−"))
        assert results_table(evidence, "topics").columns[:4] == ("Ws", "TF-IDF", "one", "one, SVD only")
