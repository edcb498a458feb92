"""Commands about Prefect's workers: deploy, submit."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.base import (
    Home,
    LimitSteps,
    ScaleName,
    Set,
    SourceOrigin,
    StudyName,
    command,
    console,
    runtime,
)


@command("Work elsewhere", "tlm submit demo", "tlm submit ws-sweep --scale small", "tlm submit my_study.yaml")
def submit(
    study: StudyName,
    set_: Set = None,
    scale: ScaleName = None,
    origin: SourceOrigin = None,
    limit_steps: LimitSteps = None,
    name: Annotated[str | None, typer.Option(help="What the run is called (default: as the study).")] = None,
    home: Home = None,
) -> None:
    """Have a Prefect worker run a study: on the server of PREFECT_API_URL, or that of `make server`."""
    from flows.deploying import submit_in_terminal

    submit_in_terminal(
        study,
        runtime(home=home),
        console,
        overrides=list(set_ or ()),
        scale=scale,
        origin=origin,
        limit_steps=limit_steps,
        run_name=name,
    )


@command("Work elsewhere", "tlm deploy")
def deploy(home: Home = None) -> None:
    """Have the Prefect server know every named study: a work pool, and a deployment with a form for each."""
    from flows.deploying import deploy_in_terminal

    deploy_in_terminal(runtime(home=home), console)
