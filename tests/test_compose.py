"""compose.yaml: loopback alone, no secret of its own, and the versions that everything else was tried with."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import python_environment

from tlm.artifacts.bucket import HONOURS

ROOT = Path(__file__).parents[1]
FILE = ROOT / "compose.yaml"
SECRETS = ("TLM_POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
COMPOSE = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def texts(tree: Any) -> Iterator[str]:
    """Every value of a tree."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from texts(value)
    else:
        yield str(tree)


def test_it_has_the_servers_and_a_worker() -> None:
    assert set(SERVICES) == {"postgres", "store", "prefect", "mlflow", "worker"}


def test_every_port_is_on_loopback_and_none_is_that_of_the_database() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)
    assert all("network_mode" not in service and not service.get("privileged") for service in SERVICES.values())


def test_secrets_come_from_the_environment_and_there_is_no_default() -> None:
    used = [use for text in texts(COMPOSE) for use in re.findall(r"\$\{([A-Z_]+)(.*?)\}", text)]
    assert {name for name, _ in used} >= set(SECRETS)
    assert all(how.startswith(":?") for name, how in used if name in SECRETS)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if name in ("POSTGRES_PASSWORD", *SECRETS):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.*\}", value), name
            for user in re.findall(r"//(.*)@", value):
                assert re.fullmatch(r"tlm:\$\{TLM_POSTGRES_PASSWORD:\?\}", user), name


def test_versions_are_pinned_and_those_that_were_tried() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}
    assert images["store"] == f"chrislusf/seaweedfs:{re.search(r'SeaweedFS .([0-9.]+)', HONOURS)[1]}"  # type: ignore[index]
    tried = re.search(r"PostgreSQL ([0-9]+)", (ROOT / "docs/cluster.md").read_text(encoding="utf-8"))
    assert tried and re.fullmatch(rf"postgres:{tried[1]}\.[0-9]+-[a-z]+", images["postgres"])
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    python = re.search(r"on Python ([0-9.]+):", constraints)
    built = SERVICES["worker"]["build"]["dockerfile_inline"]
    assert python and re.match(rf"FROM python:{re.escape(python[1])}\.[0-9]+-", built)
    installs = re.findall(r"pip install (.*)", built)
    assert len(installs) == 1 and "-c constraints.txt" in installs[0]
    for name, package in (("prefect", "prefect"), ("mlflow", "mlflow")):
        assert SERVICES[name]["build"] == SERVICES["worker"]["build"], "its version is that of constraints.txt"
        assert f"-m {package} server" in " ".join(SERVICES[name]["command"])
        assert re.search(rf"^{package}==", constraints, re.MULTILINE)


def test_services_reach_each_other_by_names_and_ports_that_are_there() -> None:
    reached = {
        (host, port)
        for service in SERVICES.values()
        for value in service.get("environment", {}).values()
        for host, port in re.findall(r"(?://|@)([a-z]+):([0-9]+)", value)
    }
    assert {host for host, _ in reached} == {"postgres", "store", "prefect", "mlflow"}
    for host, port in reached - {("postgres", "5432")}:
        assert any(published.endswith(f":{port}") for published in SERVICES[host]["ports"])
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == ("service_healthy" if "healthcheck" in SERVICES[other] else "service_started")
    mounted = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v[0].isalpha()}
    assert mounted == set(COMPOSE["volumes"])


@pytest.mark.slow
def test_docker_compose_accepts_it_and_names_the_secret_that_is_not_set() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed")
    ask = ["docker", "compose", "--file", str(FILE), "config", "--quiet"]
    given = dict.fromkeys(SECRETS, "x")
    assert subprocess.run(ask, env=python_environment(**given), capture_output=True).returncode == 0
    for name in SECRETS:
        env = python_environment(**{other: "x" for other in SECRETS if other != name})
        env.pop(name, None)
        refused = subprocess.run(ask, env=env, capture_output=True, text=True)
        assert refused.returncode != 0 and name in refused.stderr
