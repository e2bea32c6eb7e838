"""The composition for Docker: valid, complete, reachable from both sides, closed to the network."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.cli.main import app
from pipeline.settings import PREFIX, Settings
from pipeline.wiring import STAGES

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.kafka.yml"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(FILE)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = ("bootstrap", "schemas")
LASTING = [name for name in SERVICES if name not in ONE_SHOT]
_DRAIN = 10  # seconds that a sender takes to let go


def test_it_is_a_valid_composition() -> None:
    """The published schema of compose files accepts it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_a_service(stage: str) -> None:
    """Each stage runs by its own command, after topics, tables and schemas are there, unprivileged."""
    service = SERVICES[stage]
    assert service["command"] == ["run", stage]
    for name in ONE_SHOT:
        assert service["depends_on"][name] == {"condition": "service_completed_successfully"}
    for name in ("kafka", "postgres", "registry"):
        assert service["depends_on"][name] == {"condition": "service_healthy"}
    assert int(service["stop_grace_period"].removesuffix("s")) > _DRAIN
    heartbeat = service["environment"]["EVERPOST_HEARTBEAT"]
    assert heartbeat in service["healthcheck"]["test"][1]
    assert heartbeat.startswith(tuple(service["tmpfs"]))


@pytest.mark.parametrize("name", [*STAGES, *ONE_SHOT])
def test_everpost_runs_without_rights(name: str) -> None:
    """No root, no capability, nothing to write but a temporary directory."""
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("name", [*STAGES, *ONE_SHOT])
def test_every_variable_is_a_setting(name: str) -> None:
    """A typo in a variable would end the stage with code 78."""
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    given = {key for key in SERVICES[name]["environment"] if key.startswith(PREFIX)}
    assert given <= known


@pytest.mark.parametrize("name", [*STAGES, *ONE_SHOT])
def test_every_command_exists(name: str) -> None:
    """What a container runs is a command of `everpost`."""
    assert SERVICES[name]["command"][0] in app


def test_only_senders_wait_for_a_profile() -> None:
    """The rest comes up without a credential of any provider."""
    assert [name for name in SERVICES if "profiles" in SERVICES[name]] == [
        name for name in STAGES if name.startswith("send-")
    ]


def test_kafka_is_reachable_from_both_sides() -> None:
    """Containers are told a name, the host is told the loopback port that is published for it."""
    kafka = SERVICES["kafka"]
    named = dict(each.split("://") for each in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","))
    bound = dict(each.split("://") for each in kafka["environment"]["KAFKA_LISTENERS"].split(","))
    assert named["INTERNAL"] == SERVICES["route"]["environment"]["EVERPOST_BOOTSTRAP_SERVERS"]
    assert named["INTERNAL"].split(":")[1] == bound["INTERNAL"].split(":")[1]
    assert kafka["ports"] == [f"{named['EXTERNAL']}:{bound['EXTERNAL'].split(':')[1]}"]
    assert "CONTROLLER" not in named


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    """Every published port is bound to the loopback address."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """No image moves by itself: each has a tag, and none is `latest`."""
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert tag not in ("", "latest")


@pytest.mark.parametrize("name", SERVICES)
def test_logs_are_bounded(name: str) -> None:
    """No container fills the disk with its log."""
    assert SERVICES[name]["logging"]["driver"] == "json-file"
    assert SERVICES[name]["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_watched(name: str) -> None:
    """What runs on has a health check, comes back, and has time to stop."""
    service = SERVICES[name]
    assert set(service["healthcheck"]) >= {"test", "interval", "timeout", "retries", "start_period"}
    assert service["restart"] == "unless-stopped"
    assert "stop_grace_period" in service


def test_the_image_is_what_the_stages_need() -> None:
    """The image is built in two steps, leaves root, and holds every package of the project."""
    lines = (ROOT / "infra/docker/Dockerfile").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("FROM", "USER", "ENTRYPOINT"))] == [
        "FROM", "FROM", "USER", "ENTRYPOINT",
    ]  # fmt: skip
    copied = {line.split()[1] for line in lines if line.startswith("COPY") and "--from" not in line}
    admitted = {
        line[1:]
        for line in (ROOT / "infra/docker/Dockerfile.dockerignore").read_text("utf-8").splitlines()
        if line[:1] == "!"
    }
    assert admitted - {"README.md"} == (copied | {"pyproject.toml"}) - {"README.md"}
    assert {"schemas", "pipeline", "connectors", "infra"} <= copied
