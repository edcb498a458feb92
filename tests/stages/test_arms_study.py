"""A study with arms, run: its models are those of its arms, each by name, and set beside their own scratch."""

from __future__ import annotations

import pytest
from helpers import mini_study, write_mini_data

from tlm.artifacts.marts import build_memory
from tlm.artifacts.store import ArtifactStore
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.report.evidence import Evidence
from tlm.report.study_systems import in_arm, models, svd_models
from tlm.report.summary import summary
from tlm.report.tables import pretraining_table, results_table
from tlm.stages import STAGES

pytestmark = pytest.mark.slow

ARMS = {
    "plain": {"budgets": [1, 2]},
    "vectors": {"pretrain": {"embedding_init": "ppmi_svd", "packing": True}, "budgets": [1]},
    "rms": {"options": {"norm": "rms_norm"}},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, ArtifactStore]:
    """One architecture of one layer at Ws 0 and 60; no report."""
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    changes = {
        "architectures": [{"name": "one", **small}],
        "treatment_architectures": None,
        "corpus__sizes": [0, 60],
        "treatments": [],
        "committees": [],
        "svd_arm": True,
        "arms": ARMS,
    }
    mini_data = write_mini_data(tmp_path_factory.mktemp("raw"))
    planned = plan(mini_study(**changes), str(mini_data))
    runtime = Runtime(home=str(tmp_path_factory.mktemp("home")), data_root=str(mini_data), isolate=False)
    for step in planned.steps[:-1]:
        execute(step, runtime)
    return planned, ArtifactStore(runtime.artifacts)


def test_each_arm_and_budget_is_a_system_with_its_operations(ran: tuple[Plan, ArtifactStore]) -> None:
    planned, store = ran
    with build_memory(store, list(store.records()), STAGES) as connection:
        found = connection.sql(
            "select system, arm, budget, init, pretrain_flops > 0, finetune_flops > 0 from results where kind = 'finetune'"
        )
        assert set(found.fetchall()) == {
            ("one, plain, 1 steps", "plain", 1, "pretrained", True, True),
            ("one, plain, 2 steps", "plain", 2, "pretrained", True, True),
            ("one, vectors, 1 steps", "vectors", 1, "pretrained", True, True),
            ("one, rms", "rms", None, "pretrained", True, True),
            # What differs in pre-training alone is one model from scratch: that of the first arm.
            ("one, plain", "plain", None, "scratch", None, True),
            ("one, rms", "rms", None, "scratch", None, True),
            ("one, plain, SVD only", "plain", None, "svd", True, True),
            ("one, vectors, SVD only", "vectors", None, "svd", True, True),
            ("one, rms, SVD only", "rms", None, "svd", True, True),
        }
        evidence = Evidence(connection, planned.study)
        for system in models(planned.study):
            gap = evidence.gaps.find(system=system, ws=60)
            scratch = "rms" if "rms" in system else "plain"
            own = evidence.accuracy("topics", in_arm("one", scratch, None), 0)
            assert gap is not None and own is not None and gap["scratch_accuracy"] == pytest.approx(own.value)
        once, twice = (evidence.recorded("pretrain_flops", "topics", in_arm("one", "plain", n), 60) for n in (1, 2))
        assert once is not None and twice is not None and 1.5 < twice / once < 2.5
        columns = ("TF-IDF", *models(planned.study), *svd_models(planned.study))
        assert results_table(evidence, "topics").columns[1:9] == columns
        assert set(summary(evidence)["architecture"]) == set(models(planned.study))
        assert {row[0].text for row in pretraining_table(connection).rows} == set(models(planned.study))


def test_what_arms_share_is_made_once(ran: tuple[Plan, ArtifactStore]) -> None:
    planned, _ = ran
    made = [step.stage for step in planned.steps]
    assert made.count("pretrain") == 4 and made.count("corpus") == 2, "packed text is another pre-training set"
    assert made.count("tokenizer") == made.count("task") == 1
