"""`tlm deploy` and `tlm submit`: deployments on a Prefect server, and runs of them, which a worker of their pool takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.loading import load_study
from flows.prefect_environment import set_up
from flows.studies import STUDIES
from tasks.answering import check_prefect, shown
from tasks.servers import prefect_api
from tlm.errors import UserError
from tlm.machine.runtime import SAFE_PATH, Runtime
from tlm.planning.registries import check_registries
from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from uuid import UUID

    from httpx import Response
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.responses import DeploymentResponse

POOL = "tlm"
"""The work pool, in which a worker runs each study in a process of its own."""
DAILY = "daily"
"""The example of a schedule that each named study has, switched off."""
DAY = 24 * 60
_REFUSED = (400, 409, 422)
"""HTTP: parameters that do not fit a deployment's schema."""


def deploy_in_terminal(runtime: Runtime, console: Console) -> None:
    """Make the work pool and a deployment of each named study and of your own; deployments that are there are renewed.

    Schedules stay as they have been set. Raises UserError if no Prefect server answers.
    """
    server = _connect(runtime)
    say = _sayer(console)
    say(f"Making the work pool {POOL} and a deployment of each study ({server}), which takes some seconds")
    names = deploy()
    say(f"{len(names)} deployments: {server}/deployments")
    say("A worker takes their runs (make worker). Start one there, or here: tlm submit demo")


def deploy() -> list[str]:
    """The same, on the server that PREFECT_API_URL names; return the names of the deployments."""
    from prefect.client.orchestration import get_client

    from flows.deployments import FLOWS

    with get_client(sync_client=True) as client:
        _make_pool(client)
        for place, name in enumerate(FLOWS):
            _deploy(client, name, place, _known(client, name))
    return list(FLOWS)


def _make_pool(client: SyncPrefectClient) -> None:
    """Make the work pool, or renew it: whether it is paused, and how many runs it takes at once, stay as they were set."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template)
    with suppress(ObjectNotFound):
        there = client.read_work_pool(POOL)
        pool = pool.model_copy(update={"is_paused": there.is_paused, "concurrency_limit": there.concurrency_limit})
    client.create_work_pool(pool, overwrite=True)


def _known(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """The deployment of that name of the flow of that name: other flows on the server may have such a deployment too."""
    from prefect.exceptions import ObjectNotFound

    with suppress(ObjectNotFound):
        return client.read_deployment_by_name(f"{name}/{name}")
    return None


def _deploy(client: SyncPrefectClient, name: str, place: int, known: DeploymentResponse | None) -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.deployments import form_of, variable

    client.create_deployment(
        client.create_flow_from_name(name),
        name,
        description=_description(name),
        tags=_tags(name),
        entrypoint=f"flows.deployments.{variable(name)}",  # imported from where the worker has this package
        pull_steps=[],
        work_pool_name=POOL,
        job_variables={"env": SAFE_PATH},  # what lies in the folder where the worker was started is no part of a run
        parameter_openapi_schema=parameter_schema(form_of(name)).model_dump(),
        enforce_parameter_schema=True,
        schedules=_schedules(name, place, known),
    )


def _description(name: str) -> str:
    if name not in STUDIES:
        return "A study of your own: `tlm submit my_study.yaml`."
    return f"{STUDIES[name].description}\n\nThe same in a terminal: `tlm submit {name}`."


def _tags(name: str) -> list[str]:
    """The group that a study belongs to, and whether it has scales."""
    if name not in STUDIES:
        return [name]
    study = STUDIES[name]
    group = study.make.__module__.rpartition(".")[2].replace("_", "-")
    return [group, "scales"] if study.scaled else [group]


def _schedules(name: str, place: int, known: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    """What a deployment has; before it is known, an example for each named study, at a time of day of its own."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    if known is not None and (known.schedules or name not in STUDIES):
        kept = set(DeploymentScheduleCreate.model_fields) - {"replaces"}
        return [DeploymentScheduleCreate.model_validate(each.model_dump(include=kept)) for each in known.schedules]
    if name not in STUDIES:
        return []
    minute = DAY * place // len(STUDIES)
    cron = CronSchedule(cron=f"{minute % 60} {minute // 60} * * *", timezone="UTC")
    return [DeploymentScheduleCreate(schedule=cron, active=False, slug=f"{DAILY}-{name}")]


def submit_in_terminal(
    study: str,
    runtime: Runtime,
    console: Console,
    *,
    overrides: list[str],
    scale: str | None,
    origin: str | None,
    limit_steps: int | None,
    run_name: str | None,
) -> None:
    """Have a worker run a study.

    Raises:
        UserError: as `load_study`; if no Prefect server answers, or it has no such deployment.
    """
    made = load_study(study, overrides, scale=scale, origin=origin, limit_steps=limit_steps)
    check_registries(made)
    server = _connect(runtime)
    deployment, parameters = asked(study, made, overrides=overrides, scale=scale, origin=origin, limit=limit_steps)
    run_id, name, has_worker = _submit(deployment, parameters, run_name or _run_name(made))
    say = _sayer(console)
    say(f"Submitted {name}: {server}/runs/flow-run/{run_id}")
    if not has_worker:
        say("No worker is there yet to take it: make worker")


def asked(
    study: str, made: StudyConfig, *, overrides: list[str], scale: str | None, origin: str | None, limit: int | None
) -> tuple[str, dict[str, Any]]:
    """The deployment, and the fields of its form, that stand for a study of the command line."""
    if study not in STUDIES:
        return "own", {"study": made.model_dump(mode="json")}
    given = {"scale": scale, "origin": origin, "limit_steps": limit, "overrides": overrides}
    return study, {name: value for name, value in given.items() if value}


def _run_name(study: StudyConfig) -> str:
    return f"{study.name}-{study.scale}" if study.scale else study.name


def _submit(deployment: str, parameters: Mapping[str, Any], run_name: str) -> tuple[UUID, str, bool]:
    """Create the run; return its id, its name, and whether a worker is there."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{deployment}/{deployment}")
        except ObjectNotFound:
            raise UserError(f"The Prefect server has no deployment {deployment!r}.", "Make it: make deploy") from None
        try:
            run = client.create_flow_run_from_deployment(found.id, parameters=dict(parameters), name=run_name)
        except PrefectHTTPStatusError as error:
            if error.response.status_code not in _REFUSED:
                raise
            raise UserError(
                f"The deployment {deployment!r} on the Prefect server does not take these parameters: it is of another "
                f"version of tlm ({_detail(error.response)}).",
                "Renew it: make deploy",
            ) from None
        answer = client.request(
            "POST", "/work_pools/{work_pool_name}/workers/filter", path_params={"work_pool_name": POOL}, json={}
        )
    return run.id, run.name, any(worker["status"] == "ONLINE" for worker in answer.json())


def _detail(response: Response) -> str:
    """What the server says, on one line; of an answer that is no JSON, its status."""
    try:
        return " ".join(str(response.json()["detail"]).split())[:300]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"


def _connect(runtime: Runtime) -> str:
    """Have Prefect use the server of PREFECT_API_URL, or that of `make server`; return the address of its pages."""
    api = prefect_api()
    check_prefect(api)
    os.environ["PREFECT_API_URL"] = api
    set_up(runtime)
    return shown(api).rstrip("/").removesuffix("/api")


def _sayer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, highlight=False, soft_wrap=True)
