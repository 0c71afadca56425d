"""deploy/compose.yaml: every setting, port, name and secret in it is one that the code has. Nothing is started."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from flows.service_plans import EVERYWHERE, LOOPBACK
from flows.verbs import joined
from posttrain.settings.config import merge
from tasks.services.guard import own_hosts, split_names
from tasks.services.notes import NAMES
from tasks.services.passwords import KINDS
from tasks.services.postgres import MLFLOW_DRIVER, PREFECT_DRIVER, Address, require_two

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "posttrain"}
START = ["python", "-m", "flows.serve"]
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
PAGE = (ROOT / "docs" / "services.md").read_text(encoding="utf-8")


def filled(word, **variables):
    """Return a word as compose reads it: `${NAME:-default}`, `${NAME:?message}`."""
    return VARIABLE.sub(lambda found: variables.get(found[1], found[3] if found[2] == "-" else "given"), word)


def settings_of(name):
    return merge({}, [filled(word) for word in OURS[name]["command"][4:]]).servers


def test_each_service_of_ours_is_there_once():
    assert sorted(OURS) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_runs_in_the_foreground_with_settings_that_there_are(name):
    command = OURS[name]["command"]
    assert command[:4] == [*START, name]
    words = command[4:]
    assert joined(words) == words and all(word.startswith("servers.") and "=" in word for word in words)
    settings_of(name)  # an unknown name or a value out of range is refused


@pytest.mark.parametrize("name", ["mlflow", "prefect"])
def test_a_server_listens_beyond_its_container_with_a_password_and_by_its_name(name):
    settings = settings_of(name)
    assert settings.host == EVERYWHERE and settings.host not in LOOPBACK
    names = split_names(settings.names)
    port = {"mlflow": settings.mlflow_port, "prefect": settings.prefect_port}[name]
    for host in (f"{name}:{port}", f"localhost:{port}"):
        assert host in own_hosts(port, names), "the other containers and the published port call it so"
    with_name = split_names(merge({}, [filled(word, SERVER_NAME="x.org") for word in OURS[name]["command"][4:]]).servers.names)
    assert "x.org" in with_name
    (published,) = OURS[name]["ports"]
    assert filled(published) == f"127.0.0.1:{port}:{port}", "the network sees it only where LISTEN says so"


@pytest.mark.parametrize("name", sorted(OURS))
def test_secrets_are_files_that_the_container_has(name):
    settings = settings_of(name)
    places = [settings.password, settings.database_password]
    assert settings.password
    for place in filter(None, places):
        kind, _, path = place.partition(":")
        assert kind in KINDS and kind == "file"
        assert path.removeprefix("/run/secrets/") in OURS[name]["secrets"]
        assert path.removeprefix("/run/secrets/") in COMPOSE["secrets"]


def test_no_secret_stands_in_the_file():
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"secrets/{name}"}
        assert f"deploy/secrets/{name}" in PAGE
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/deploy/secrets/" in ignored and "/deploy/.env" in ignored
    kept_out = (ROOT / ".dockerignore").read_text().splitlines()
    assert "deploy/secrets" in kept_out and "deploy/.env" in kept_out
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            is_secret = any(word in variable for word in ("SECRET", "PASSWORD", "KEY"))
            assert not is_secret or value.startswith("/run/secrets/") or VARIABLE.fullmatch(value), variable


def test_the_databases_are_two_that_the_postgresql_makes():
    prefect = Address.read(settings_of("prefect").prefect_database, setting="p", driver=PREFECT_DRIVER)
    mlflow = Address.read(settings_of("mlflow").mlflow_database, setting="m", driver=MLFLOW_DRIVER)
    require_two(prefect, mlflow)
    made = SERVICES["postgres"]["environment"]
    assert prefect.host == mlflow.host == "postgres" and prefect.user == mlflow.user == made["POSTGRES_USER"]
    assert made["POSTGRES_DB"] == prefect.database
    assert COMPOSE["configs"]["databases"]["content"] == f"CREATE DATABASE {mlflow.database};"
    assert made["POSTGRES_PASSWORD_FILE"] == "/run/secrets/database_password"
    assert mlflow.database in SERVICES["postgres"]["healthcheck"]["test"], "it is healthy once the second one is there"


def test_health_is_asked_where_it_is_told():
    defaults = merge({}).servers
    addresses = {
        "mlflow": f"http://127.0.0.1:{defaults.mlflow_port}/health",
        "prefect": f"http://127.0.0.1:{defaults.prefect_port}/api/health",
        "worker": f"http://127.0.0.1:{defaults.worker_port}/health",
    }
    for name, address in addresses.items():
        assert f"'{address}'" in OURS[name]["healthcheck"]["test"][-1]


def test_the_worker_and_the_files_find_their_servers():
    assert OURS["worker"]["environment"]["PREFECT_API_URL"] == f"http://prefect:{merge({}).servers.prefect_port}/api"
    built = OURS["worker"]["build"]["dockerfile_inline"]
    assert f"uri: http://mlflow:{merge({}).servers.mlflow_port}" in built and merge({"tracking": {"uri": "http://mlflow:5000"}})
    bucket = settings_of("mlflow").artifacts.removeprefix("s3://")
    assert SERVICES["bucket"]["command"][-1] == f"/data/{bucket}", "a bucket of the store is a folder"
    assert OURS["mlflow"]["environment"]["MLFLOW_S3_ENDPOINT_URL"] == "http://objects:7070"


def test_the_image_has_the_extras_and_depends_on_what_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = re.findall(r"\.\[([\w,]+)\]", OURS["mlflow"]["build"]["dockerfile_inline"])
    assert set(asked.split(",")) <= extras.keys() and {"postgres", "s3"} <= set(asked.split(","))
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= SERVICES.keys()
        named = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert set(named) <= COMPOSE["volumes"].keys()


def test_every_variable_is_told_on_the_page():
    for name in {found[0] for found in VARIABLE.findall(FILE.read_text())}:
        assert name in PAGE, f"docs/services.md says nothing of {name}"
