"""Deployments: a form that is short and says what its fields are, and the study that it asks for."""

from __future__ import annotations

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import httpx
import pytest
import yaml
from helpers import mini_tree
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.utilities.callables import parameter_schema

from flows import deploying, deployments
from flows.deploying import asked
from flows.deployments import AS_SCALE, FLOWS, OWN, form_of
from flows.loading import load_study
from flows.studies import STUDIES
from flows.studies.registry import ORIGINS
from flows.studies.scales import DEFAULT_SCALE, SCALES
from tlm.errors import UserError
from tlm.machine.runtime import PACKAGE_PARENT


def test_there_is_a_deployment_for_each_named_study_and_one_for_others() -> None:
    assert list(FLOWS) == [*STUDIES, OWN]
    assert all(getattr(deployments, deployments.variable(name)) is flow for name, flow in FLOWS.items())


def test_a_form_offers_the_scales_and_the_origins_that_there_are() -> None:
    fields = parameter_schema(form_of("ws-sweep")).properties
    assert fields["scale"]["enum"] == list(SCALES) and fields["scale"]["default"] == DEFAULT_SCALE
    assert set(fields["origin"]["enum"]) == {AS_SCALE, *ORIGINS}
    assert set(get_args(deployments.ScaleName)) == set(SCALES)


@pytest.mark.parametrize("name", ["ws-sweep", "demo", OWN])
def test_a_form_is_short_and_each_field_is_one_input_that_says_what_it_is(name: str) -> None:
    schema = parameter_schema(form_of(name))
    scaled = ["scale", "origin"] if name == "ws-sweep" else []
    assert {*schema.properties} == {*scaled, "limit_steps", "overrides", "study"}
    assert schema.required == (["study"] if name == OWN else []) and not schema.definitions
    for field in schema.properties.values():
        assert field["description"] and field["type"] in ("string", "integer", "array", "object")


@pytest.mark.parametrize(
    ("name", "given", "options"),
    [
        ("demo", {}, {}),
        ("ws-sweep", {"scale": "small", "origin": "local"}, {"scale": "small", "origin": "local"}),
        ("committee", {"limit_steps": 3}, {"limit_steps": 3}),
        ("demo", {"overrides": ["pretrain.steps=7"]}, {"overrides": ["pretrain.steps=7"]}),
    ],
)
def test_a_form_asks_for_what_the_command_line_would(name: str, given: dict[str, Any], options: dict[str, Any]) -> None:
    assert form_of(name)(**given) == load_study(name, **options)


def test_an_experts_study_takes_the_place_of_the_named_one(tmp_path: Path) -> None:
    made = form_of("ws-sweep")(scale="paper", study=mini_tree(), overrides=["pretrain.steps=9"], limit_steps=2)
    assert (made.name, made.scale, made.pretrain.steps, made.pretrain.max_steps) == ("mini", None, 9, 2)
    with pytest.raises(UserError, match=r"study: pretrain\.steps"):
        form_of(OWN)(study=mini_tree(pretrain__steps="many"))


@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("name", ["demo", "ws-sweep", "mini.yaml"])
def test_what_is_submitted_is_the_study_of_the_command_line(name: str, limit: int | None, tmp_path: Path) -> None:
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(mini_tree()), encoding="utf-8")
    study = str(tmp_path / name) if name.endswith("yaml") else name
    options: dict[str, Any] = (
        {"scale": "paper", "origin": "local"} if name == "ws-sweep" else {"scale": None, "origin": None}
    )
    overrides = ["finetune.epochs=3"]
    made = load_study(study, overrides, limit_steps=limit, **options)
    deployment, fields = asked(study, made, overrides=overrides, limit=limit, **options)
    assert form_of(deployment)(**FLOWS[deployment].validate_parameters(fields)) == made


def test_schedules_are_off_and_no_two_are_at_the_same_time() -> None:
    made = [each for place, name in enumerate(FLOWS) for each in deploying._schedules(name, place, None)]
    assert len(made) == len(STUDIES) and not any(each.active for each in made)
    assert len({each.schedule.cron for each in made}) == len({each.slug for each in made}) == len(STUDIES)  # type: ignore[union-attr]


def test_what_was_set_on_the_server_stays_and_other_flows_deployments_are_not_taken_for_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A paused pool stays paused; schedules are those of `demo/demo`, not of another flow with a deployment `demo`."""
    schedule = DeploymentSchedule(schedule=CronSchedule(cron="7 7 * * *"), active=True)
    made: dict[str, Any] = {}

    class Client(nullcontext[Any]):
        def __enter__(self) -> Any:
            return self

        def read_work_pool(self, name: str) -> Any:
            return SimpleNamespace(is_paused=True, concurrency_limit=2)

        def create_work_pool(self, pool: Any, overwrite: bool) -> None:
            made["pool"] = (pool.is_paused, pool.concurrency_limit)

        def read_deployment_by_name(self, name: str) -> Any:
            if name != "demo/demo":
                raise ObjectNotFound(ValueError(name))
            return SimpleNamespace(schedules=[schedule])

        def create_flow_from_name(self, name: str) -> str:
            return name

        def create_deployment(self, flow: str, name: str, **fields: Any) -> None:
            made[name] = [(each.schedule.cron, each.active) for each in fields["schedules"]]

    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **_: Client())
    deploying.deploy()
    assert made.pop("pool") == (True, 2)
    assert {name for name, own in made.items() if ("7 7 * * *", True) in own} == {"demo"}
    assert made["demo"] == [("7 7 * * *", True)] and made[OWN] == []


def test_tags_say_which_studies_belong_together_and_which_have_scales() -> None:
    tags = {name: deploying._tags(name) for name in FLOWS}
    assert tags["committee"] == ["paper", "scales"] and tags["demo"] == ["introductory"] and tags[OWN] == [OWN]
    assert {name for name, own in tags.items() if "scales" in own} == {name for name in STUDIES if STUDIES[name].scaled}


@pytest.mark.parametrize(
    ("given", "prefect", "mlflow"),
    [
        ({}, "http://127.0.0.1:4200/api", "http://127.0.0.1:5000"),
        ({"TLM_PREFECT_PORT": "4301", "TLM_MLFLOW_PORT": "5301"}, "http://127.0.0.1:4301/api", "http://127.0.0.1:5301"),
        ({"PREFECT_API_URL": "http://a/api", "MLFLOW_TRACKING_URI": "http://b"}, "http://a/api", "http://b"),
    ],
)
def test_make_finds_the_servers_where_the_environment_says(given: dict[str, str], prefect: str, mlflow: str) -> None:
    environment = {"PATH": os.environ["PATH"], **given}
    said = {
        target: subprocess.run(
            ["make", "-n", target], cwd=PACKAGE_PARENT, env=environment, capture_output=True, text=True
        )
        for target in ("deploy", "worker")
    }
    assert all(f"PREFECT_API_URL={prefect} " in each.stdout for each in said.values()), said
    assert f"MLFLOW_TRACKING_URI={mlflow} " in said["worker"].stdout


@pytest.mark.parametrize("status", [400, 409, 422])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"json": {"detail": "Error creating flow run:\n 'scales' was unexpected"}}, "'scales' was unexpected"),
        ({}, "HTTP 4"),
    ],
)
def test_a_deployment_of_another_version_says_how_to_renew_it(
    status: int, answer: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = httpx.Response(status, request=httpx.Request("POST", "http://127.0.0.1:4200/api"), **answer)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PrefectHTTPStatusError.from_httpx_error(
            httpx.HTTPStatusError("Client error", request=response.request, response=response)
        )

    there = SimpleNamespace(id="1")
    client = SimpleNamespace(read_deployment_by_name=lambda name: there, create_flow_run_from_deployment=refuse)
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **kwargs: nullcontext(client))
    with pytest.raises(UserError, match=f"'demo' on the Prefect server.*{said}.*make deploy"):
        deploying._submit("demo", {"scales": "tiny"}, "demo")
