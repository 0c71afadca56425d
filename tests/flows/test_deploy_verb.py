"""`make deploy`: what it refuses, and that what it writes is what the installed Prefect and Kubernetes take."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from flows import deploy_verb as subject
from flows.deploy_files import Deployed, files_of, job_template, shipped_templates
from flows.deploy_verb import deploy
from flows.start import Start
from posttrain.errors import RequestError
from posttrain.settings.config import merge
from tasks.workspace.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
API = "http://prefect.example:4200/api"
GOOD = {"tracking": {"uri": "http://mlflow.example:5000"}, "store": {"uri": "s3://bucket/stages"}}
MARK = r"made by: make deploy POOL=\w+ NAME=\S+.*; what follows: [0-9a-f]{16}"


@pytest.fixture
def asks(tmp_path, monkeypatch, capsys):
    """Return what asks for files, in a folder of its own; it gives what was printed and what was said."""
    monkeypatch.setenv("PREFECT_API_URL", API)
    for name in subject.NO_SECRETS:
        monkeypatch.delenv(name, raising=False)

    def ask(*words, params=GOOD):
        said = []
        start = Start(configuration=lambda overrides: merge(params, overrides), prepare=lambda config: None, say=said.append)
        deploy(Paths(tmp_path), words, start)
        return capsys.readouterr().out.splitlines(), said

    ask.root = tmp_path
    return ask


def what(kind, **changes):
    given = {"name": "gpu", "folder": "deploy/gpu", "api": API, "image": "" if kind == "process" else "posttrain:1"}
    return Deployed(kind=kind, **{**given, "prefect": "3.8.8", **changes})


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "POOL must be process, docker or kubernetes, got nothing: make deploy POOL=docker NAME=gpu"),
        (
            ["pool=dokcer"],
            "POOL must be process, docker or kubernetes, got dokcer; did you mean docker?: make deploy POOL=docker NAME=gpu",
        ),
        (
            ["pool=kubernetes", "image=a/b:1", "name=My_Pool"],
            "NAME must be a name of Kubernetes, got 'My_Pool': small letters, digits",
        ),
        (["pool=kubernetes", "image=a/b:1", "name=-pool"], "NAME must be a name of Kubernetes, got '-pool'"),
        (["pool=kubernetes", "image=a/b:1", f"name={'a' * 51}"], "NAME must be a name of Kubernetes"),
        (["pool=docker", "name=a b"], "NAME must be of letters, digits and ._-"),
        (["pool=process", "name=posttrain"], "NAME must not be posttrain, which is the pool of make up's own worker"),
        (["pool=process", "image=a"], "IMAGE is of POOL=docker and POOL=kubernetes: a process runs in a checkout"),
        (["pool=kubernetes"], "POOL=kubernetes needs IMAGE, which the cluster can pull: IMAGE=registry.example.org/posttrain:1"),
        (["pool=docker", "image=a b"], "IMAGE must be the reference of an image, such as posttrain:1, got 'a b'"),
        (["pool=docker", "force=yes"], "FORCE must be 1 (write over files that were changed) or 0, got yes"),
        (["pool=docker", "to=a b"], "TO must be a folder of letters, digits and ./_-, got 'a b'"),
        (["pool=docker", "seed=1"], "deploy takes no settings, got seed: runs elsewhere read params.yaml, so put it there"),
    ],
)
def test_a_wrong_word_is_refused_and_nothing_is_written(asks, words, says):
    with pytest.raises(RequestError) as told:
        asks(*words)
    assert str(told.value).startswith(says)
    assert list(asks.root.iterdir()) == []


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "http://127.0.0.1:5000", "http://localhost:5000"])
def test_containers_need_a_ledger_that_they_reach(asks, kind, uri):
    with pytest.raises(RequestError, match=r"^tracking\.uri in params\.yaml is .*runs elsewhere would not write into one ledger"):
        asks(f"pool={kind}", "image=a:1", params={"tracking": {"uri": uri}})
    assert list(asks.root.iterdir()) == []


def test_containers_need_a_server_that_they_reach(asks, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with pytest.raises(RequestError, match=r"^PREFECT_API_URL is http://127\.0\.0\.1:4200/api, which no other machine"):
        asks("pool=docker")
    monkeypatch.delenv("PREFECT_API_URL")
    with pytest.raises(
        RequestError, match=r"^make deploy must know Prefect's server, and none runs here\. Start it: make up; or"
    ):
        asks("pool=process")


def test_processes_of_this_machine_are_only_warned(asks, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    _, said = asks("pool=process", params={})
    assert [line.split(" ")[1] for line in said] == ["PREFECT_API_URL", "tracking.uri", "store.uri"]
    assert all(line.startswith("note: ") for line in said)


def test_a_store_that_is_not_shared_is_told(asks):
    _, said = asks("pool=docker", params={"tracking": GOOD["tracking"]})
    assert said == [
        "note: store.uri in params.yaml is empty, so workers do not see each other's finished stages, and make them again "
        "(docs/scale.md)"
    ]
    _, said = asks("pool=docker", params={**GOOD, "store": {"uri": "file:///shared"}})
    assert said == ["note: store.uri is file:///shared: mount that folder into the containers as well, at the same place"]


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("process", ["worker.sh"]),
        ("docker", ["Dockerfile", "base-job-template.json", "worker.sh"]),
        ("kubernetes", ["Dockerfile", "base-job-template.json", "worker.yaml"]),
    ],
)
def test_every_file_says_first_which_command_made_it(asks, kind, names):
    image = [] if kind == "process" else ["image=posttrain:1"]
    printed, _ = asks(f"pool={kind}", "name=gpu", *image)
    folder = asks.root / "deploy" / "gpu"
    assert sorted(file.name for file in folder.iterdir()) == names
    assert sorted(printed[: len(names)]) == [f"deploy/gpu/{name}" for name in names]
    for file in folder.iterdir():
        assert re.search(MARK, file.read_text().splitlines()[0]), file
    assert printed[len(names)] == "next:" and len(printed) == len(names) + 3, "two commands"
    assert printed[-1].strip() == 'make schedule METHOD=dpo CRON="0 3 * * *" POOL=gpu'
    # the same again changes nothing
    before = {file: file.read_bytes() for file in folder.iterdir()}
    asks(f"pool={kind}", "name=gpu", *image)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["Dockerfile", "base-job-template.json", "worker.sh"])
def test_what_the_user_has_changed_stays(asks, name):
    asks("pool=docker", "name=gpu")
    file = asks.root / "deploy" / "gpu" / name
    changed = file.read_text().replace("posttrain", "mine", 1) + "\n"
    file.write_text(changed)
    before = {one: one.read_bytes() for one in file.parent.iterdir()}
    with pytest.raises(RequestError) as told:
        asks("pool=docker", "name=gpu", "image=other:2")
    assert str(told.value) == f"deploy/gpu/{name} was changed since it was made. Move it away, or write over it: FORCE=1"
    assert {one: one.read_bytes() for one in file.parent.iterdir()} == before
    asks("pool=docker", "name=gpu", "image=other:2", "force=1")
    assert file.read_text() != changed


def test_a_failure_leaves_no_half_of_the_files(asks, monkeypatch):
    whole = Path.write_text

    def fail(self, text, **how):
        if self.name == "worker.sh":
            raise OSError(28, "No space left on device")
        return whole(self, text, **how)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(Exception, match="make deploy"):
        asks("pool=docker", "name=gpu")
    assert list((asks.root / "deploy" / "gpu").iterdir()) == []


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_the_job_template_is_what_prefect_takes(kind):
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.server.schemas.actions import WorkPoolCreate as ByServer

    secrets = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    template = job_template(what(kind, secrets=secrets, values={"AWS_REGION": "eu"}, gpus=2))
    written = json.loads(
        subject.marked("base-job-template.json", json.dumps(template, indent=1) + "\n", "make deploy POOL=x NAME=y")
    )
    for model in (WorkPoolCreate, ByServer):
        assert model(name="gpu", type=kind, base_job_template=written).base_job_template == written
    shipped = shipped_templates()[kind]["variables"]["properties"]
    ours = template["variables"]["properties"]
    assert set(ours) - set(shipped) <= {"gpus"}, "every other setting is one that Prefect ships"
    assert ours["image"]["default"] == "posttrain:1"
    told = ours["env"]["default"]
    assert told["PREFECT_API_URL"] == API and told["POSTTRAIN_ROOT"] == "/posttrain" and told["AWS_REGION"] == "eu"
    assert shipped_templates()[kind]["variables"]["properties"]["image"].get("default") is None, "what is shipped stays"
    if kind == "docker":
        assert told["AWS_SECRET_ACCESS_KEY"] == "{{ prefect.blocks.secret.gpu-aws-secret-access-key }}"
        assert "gpu-stages:/posttrain/.posttrain" in ours["volumes"]["default"]
        return
    assert not set(secrets) & set(told)
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "gpu", "optional": False}}]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}" and ours["gpus"]["default"] == 2
    (volume,) = pod["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "gpu"} and container["volumeMounts"][0]["name"] == volume["name"]


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_worker_reads_the_template_as_it_was_meant(kind):
    """The part of a worker that every kind shares, as Prefect runs it: our defaults reach the job, and none of it is lost."""
    import asyncio

    from prefect.workers.base import BaseJobConfiguration

    template = job_template(what(kind))
    made = asyncio.run(BaseJobConfiguration.from_template_and_values(template, {}, client=NoBlocks()))
    assert made.env["POSTTRAIN_ROOT"] == "/posttrain" and made.env["PREFECT_API_URL"] == API


class NoBlocks:
    async def read_variable_by_name(self, name):
        return None


def test_the_workers_manifests_are_whole():
    text = files_of(what("kubernetes", secrets=("PREFECT_API_AUTH_STRING",)))["worker.yaml"]
    made = {one["kind"]: one for one in yaml.safe_load_all(text)}
    assert set(made) == {"ServiceAccount", "Role", "RoleBinding", "PersistentVolumeClaim", "Deployment"}
    assert {one["metadata"]["name"] for one in made.values()} == {"gpu"}
    pod = made["Deployment"]["spec"]["template"]
    assert made["Deployment"]["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "prefecthq/prefect:3.8.8-python3.12-kubernetes"
    assert container["env"] == [{"name": "PREFECT_API_URL", "value": API}]
    assert container["envFrom"] == [{"secretRef": {"name": "gpu", "optional": False}}]
    assert pod["spec"]["serviceAccountName"] == "gpu" and made["RoleBinding"]["roleRef"]["name"] == "gpu"
    (jobs,) = (rule for rule in made["Role"]["rules"] if rule["apiGroups"] == ["batch"])
    assert {"create", "delete", "watch"} <= set(jobs["verbs"])
    assert all(isinstance(word, str) for word in container["args"])


@pytest.mark.parametrize("kind", ["process", "docker"])
@pytest.mark.parametrize("password", ["", "file:/etc/posttrain/login", "env:LOGIN"])
def test_scripts_are_ones_that_a_shell_reads(kind, password, tmp_path):
    made = what(kind, password=password, secrets=subject.LOGIN if password else ())
    script = tmp_path / "worker.sh"
    script.write_text(files_of(made)["worker.sh"])
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert ("PREFECT_API_AUTH_STRING" in script.read_text()) == bool(password)
    told = subprocess.run(["sh", str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 2 and "start it in the root of a checkout" in told.stderr


def test_the_options_of_the_scripts_are_those_of_prefect():
    """What a script gives `prefect` is read from Prefect's own commands."""
    import inspect

    from prefect.cli import work_pool, worker

    known = "".join(inspect.getsource(module) for module in (worker, work_pool))
    for kind in ("process", "docker"):
        for option in set(re.findall(r"--[a-z-]+", files_of(what(kind))["worker.sh"])):
            assert f'"{option}"' in known, option


def test_no_secret_is_written(asks, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("LOGIN", "ann:hush-hush")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    for kind in ("process", "docker", "kubernetes"):
        image = [] if kind == "process" else ["image=posttrain:1"]
        _, said = asks(f"pool={kind}", *image, params={**GOOD, "servers": {"password": "env:LOGIN"}})
        text = "".join(file.read_text() for file in (asks.root / "deploy" / f"posttrain-{kind}").iterdir())
        assert "hush" not in text + "".join(said) and (kind == "process" or "eu-central-1" in text)


def test_the_image_is_built_as_that_of_the_team_and_has_the_extras():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = files_of(what("docker", extras=("store", "s3")))["Dockerfile"]
    assert set(re.findall(r"\.\[([\w,]+)\]", text)[0].split(",")) <= set(extras)
    team = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["x-posttrain"]["build"]["dockerfile_inline"]
    assert text.splitlines()[:4] == team.splitlines()[:4]
