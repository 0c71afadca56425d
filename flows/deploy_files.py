"""What `make deploy` writes: what it takes to run scheduled work on a work pool of Prefect's, for each kind of pool.

The job templates are those that the installed Prefect ships, with our values as defaults, so that they hold what it accepts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

PROCESS, DOCKER, KUBERNETES = "process", "docker", "kubernetes"
KINDS = (PROCESS, DOCKER, KUBERNETES)
ROOT_NAME = "POSTTRAIN_ROOT"
"""In the environment of a run elsewhere: the folder of posttrain there."""
IN_IMAGE = "/posttrain"
SHIPPED = "collections_data/views/aggregate-worker-metadata.json"
"""Of Prefect's server: what each kind of worker takes."""


@dataclass(frozen=True)
class Deployed:
    """What the files are made for.

    Attributes:
        kind: of the pool.
        name: of the pool, and of all that is made for it.
        folder: that the files go into, as one types it.
        api: address of Prefect's API.
        image: reference of the image; "" for processes.
        extras: of posttrain that the image has.
        secrets: names of environment variables that a run needs and no file holds.
        values: further variables, which are no secrets.
        password: where the servers' login is, as `servers.password` says; "" for none.
        gpus: of a run.
        prefect: version of Prefect here.
    """

    kind: str
    name: str
    folder: str
    api: str
    image: str = ""
    extras: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    password: str = ""
    gpus: int = 0
    prefect: str = ""


def files_of(what: Deployed) -> dict[str, str]:
    """Return the files by name, without their first line."""
    if what.kind == PROCESS:
        return {"worker.sh": _process_worker(what)}
    template = {"base-job-template.json": json.dumps(job_template(what), indent=1) + "\n", "Dockerfile": dockerfile(what)}
    if what.kind == DOCKER:
        return template | {"worker.sh": _docker_worker(what)}
    return template | {"worker.yaml": kubernetes_worker(what)}


def next_commands(what: Deployed) -> tuple[str, str]:
    """Return what the user runs next."""
    build = f"docker build --file {what.folder}/Dockerfile --tag {what.image} ."
    if what.kind == PROCESS:
        start = f"sh {what.folder}/worker.sh"
    elif what.kind == DOCKER:
        start = f"{build} && sh {what.folder}/worker.sh"
    else:
        start = f"{build} && docker push {what.image} && {_create(what)} && kubectl apply --filename {what.folder}/worker.yaml"
    return start, f'make schedule METHOD=dpo CRON="0 3 * * *" POOL={what.name}'


def _create(what: Deployed) -> str:
    told = f"--type {what.kind} --base-job-template {what.folder}/base-job-template.json --overwrite"
    return f"PREFECT_API_URL={what.api} .venv/bin/prefect work-pool create {what.name} {told}"


# --- a process, a container -------------------------------------------------------------------------------------------


def _head(what: Deployed, about: str) -> str:
    lines = [
        f"# {about}",
        "set -eu",
        'test -f params.yaml || { echo "start it in the root of a checkout of posttrain, where params.yaml is" >&2; exit 2; }',
        f'export PREFECT_API_URL="${{PREFECT_API_URL:-{what.api}}}"',
    ]
    return "\n".join([*lines, *_login(what.password)]) + "\n"


def _login(password: str) -> list[str]:
    """Return the lines that take the servers' login from where it is."""
    how, _, where = password.partition(":")
    if not where:
        return []
    told = f'"$(cat {where})"' if how == "file" else f'"${{{where}:?servers.password is env:{where}}}"'
    return [
        f"PREFECT_API_AUTH_STRING={told}",
        'MLFLOW_TRACKING_USERNAME="${PREFECT_API_AUTH_STRING%%:*}"',
        'MLFLOW_TRACKING_PASSWORD="${PREFECT_API_AUTH_STRING#*:}"',
        "export PREFECT_API_AUTH_STRING MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD",
    ]


def _process_worker(what: Deployed) -> str:
    told = f'--pool {what.name} --type process --name "posttrain-$(hostname)" --limit 1 --install-policy never'
    return _head(what, "A worker that runs scheduled work in this checkout, one run at a time. Each machine has its own.") + (
        f'export {ROOT_NAME}="$PWD" PYTHONPATH="$PWD"\n'
        'export PREFECT_HOME="$PWD/.posttrain/prefect" PREFECT_LOCAL_STORAGE_PATH="$PWD/.posttrain/prefect/results"\n'
        f"exec .venv/bin/python -m prefect worker start {told}\n"
    )


def _docker_worker(what: Deployed) -> str:
    create = f".venv/bin/python -m prefect work-pool create {what.name} --type docker"
    create += f" --base-job-template {what.folder}/base-job-template.json --overwrite"
    lines = [create]
    if what.secrets:
        lines += [
            "# what runs need and no file holds goes from this shell into Prefect's secrets, which the job template names",
            *(f': "${{{name}:?a run needs {name}}}"' for name in what.secrets),
            f"export {' '.join(what.secrets)}",
            ".venv/bin/python - <<'END'",
            "import os",
            "from prefect.blocks.system import Secret",
            *(f'Secret(value=os.environ["{name}"]).save("{_block(what.name, name)}", overwrite=True)' for name in what.secrets),
            "END",
        ]
    told = f'--pool {what.name} --type docker --name "posttrain-$(hostname)" --limit 1 --install-policy if-not-present'
    lines += ["# the first start installs prefect-docker", f"exec .venv/bin/python -m prefect worker start {told}"]
    about = f"A worker that runs scheduled work in containers of {what.image}, one at a time."
    return _head(what, about) + "\n".join(lines) + "\n"


def dockerfile(what: Deployed) -> str:
    """Return how the image is built of a checkout; its params.yaml goes along, and .dockerignore leaves secrets out."""
    extras = f"[{','.join(what.extras)}]" if what.extras else ""
    return f"""\
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR {IN_IMAGE}
COPY . .
RUN pip install --no-cache-dir -c constraints.txt torch \\
  && pip install --no-cache-dir -c constraints.txt --editable '.{extras}'
"""


# --- job templates ----------------------------------------------------------------------------------------------------


@cache
def shipped_templates() -> dict[str, Any]:
    """Return the job template of each kind of pool, as the installed Prefect has it."""
    told = json.loads(files("prefect.server.api").joinpath(SHIPPED).read_text(encoding="utf-8"))
    return {kind: worker["default_base_job_configuration"] for workers in told.values() for kind, worker in workers.items()}


def job_template(what: Deployed) -> dict[str, Any]:
    """Return the job template of a pool of containers: Prefect's own, with our values as its defaults."""
    template = json.loads(json.dumps(shipped_templates()[what.kind]))
    defaults: dict[str, Any] = {"image": what.image, "env": _environment(what)}
    if what.kind == DOCKER:
        folders = {"data": "data", "stages": ".posttrain", "reports": "reports"}
        volumes = [f"{what.name}-{name}:{IN_IMAGE}/{folder}" for name, folder in folders.items()]
        defaults |= {"image_pull_policy": "IfNotPresent", "auto_remove": True, "volumes": volumes}
    else:
        defaults |= {"image_pull_policy": "Always", "finished_job_ttl": 86_400, "memory_request": "8Gi", "cpu_request": "2"}
        _mount(template, what)
    properties = template["variables"]["properties"]
    for name, value in defaults.items():
        properties[name]["default"] = value  # a name that this Prefect does not know is an error here
    return dict(template)


def _block(pool: str, variable: str) -> str:
    """Return the name of Prefect's secret that holds a variable."""
    return f"{pool}-{variable}".lower().replace("_", "-").replace(".", "-")


def _environment(what: Deployed) -> dict[str, str]:
    home = f"{IN_IMAGE}/.posttrain/prefect"
    told = {
        ROOT_NAME: IN_IMAGE,
        "PYTHONPATH": IN_IMAGE,
        "PREFECT_API_URL": what.api,
        "PREFECT_HOME": home,
        "PREFECT_LOCAL_STORAGE_PATH": f"{home}/results",
        **what.values,
    }
    if what.kind == DOCKER:  # in Kubernetes they come from a Secret
        told |= {name: "{{ prefect.blocks.secret." + _block(what.name, name) + " }}" for name in what.secrets}
    return told


def _mount(template: dict[str, Any], what: Deployed) -> None:
    """Give the pod of a run its secrets, its volume and its GPUs."""
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["envFrom"] = [{"secretRef": {"name": what.name, "optional": not what.secrets}}]
    container["volumeMounts"] = [{"name": "stages", "mountPath": f"{IN_IMAGE}/.posttrain"}]
    pod["volumes"] = [{"name": "stages", "persistentVolumeClaim": {"claimName": what.name}}]
    container["resources"]["limits"]["nvidia.com/gpu"] = "{{ gpus }}"
    template["variables"]["properties"]["gpus"] = {
        "title": "GPUs",
        "description": "GPUs of a run, model.processes of them at most; 0 for none.",
        "default": what.gpus,
        "type": "integer",
    }


# --- a worker in Kubernetes -------------------------------------------------------------------------------------------


def kubernetes_worker(what: Deployed) -> str:
    """Return the worker, what it may do, and the volume of its runs."""
    return KUBERNETES_WORKER.format(name=what.name, api=what.api, prefect=what.prefect, optional=str(not what.secrets).lower())


KUBERNETES_WORKER = """\
# One worker, in the namespace `default`, as base-job-template.json has it. Its image is Prefect's own: runs have ours.
apiVersion: v1
kind: ServiceAccount
metadata: {{ name: {name} }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{ name: {name} }}
rules:
  - apiGroups: [""]
    resources: [events, pods, pods/log, pods/status]
    verbs: [get, watch, list]
  - apiGroups: [batch]
    resources: [jobs]
    verbs: [get, list, watch, create, update, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{ name: {name} }}
subjects:
  - {{ kind: ServiceAccount, name: {name} }}
roleRef: {{ kind: Role, name: {name}, apiGroup: rbac.authorization.k8s.io }}
---
# finished stages and checkpoints of runs; runs on several machines at a time need ReadWriteMany
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{ name: {name} }}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{ requests: {{ storage: 100Gi }} }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      serviceAccountName: {name}
      containers:
        - name: worker
          image: prefecthq/prefect:{prefect}-python3.12-kubernetes
          args: [prefect, worker, start, --pool, {name}, --type, kubernetes, --limit, "1"]
          env:
            - {{ name: PREFECT_API_URL, value: "{api}" }}
          envFrom:
            - secretRef: {{ name: {name}, optional: {optional} }}
"""
