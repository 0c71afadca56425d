"""`make deploy`: the files with which scheduled work runs on a work pool of Prefect's, checked before one is written."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flows.deploy_files import DOCKER, KINDS, KUBERNETES, PROCESS, Deployed, files_of, next_commands
from flows.service_plans import LOOPBACK, WORK_POOL
from posttrain.errors import RequestError, did_you_mean
from posttrain.schedules.rules import checked_name
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.services.notes import PREFECT, running
from tasks.workspace.disk import storage_errors
from tasks.workspace.paths import Paths

if TYPE_CHECKING:
    from flows.start import Start

WORDS = ("pool", "name", "image", "to", "force")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")
"""A name of Kubernetes (RFC 1123), with room for what it puts behind."""
IMAGE = re.compile(r"[a-z0-9][\w.:/@-]*")
OF_STORES = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
"""Variables by which the provider of `store.uri` knows who asks."""
NO_SECRETS = ("AWS_REGION", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
LOGIN = ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
MADE = "made by: "
DIGITS = 16


def deploy(paths: Paths, words: Sequence[str], start: "Start") -> None:
    """Check what the words ask for, write the files, and print what to run next.

    Raises:
        RequestError: a word is wrong, a server cannot be reached from elsewhere, or a file was changed by hand.
        StorageError: the files cannot be written; none of them is there then that was not before.
    """
    given = _given(words)
    config = start.configuration([])
    kind = given["pool"]
    api = _api(paths)
    for note in _notes(config, kind, api):
        start.say(note)
    what = _deployed(given, config, api)
    write(paths, what, command=_command(given), is_forced=given["force"] == "1")
    for file in files_of(what):
        print(f"{what.folder}/{file}")
    if what.secrets and kind != PROCESS:
        start.say(_secrets(what))
    begin, then = next_commands(what)
    print(f"next:\n  {begin}\n  {then}")


def _given(words: Sequence[str]) -> dict[str, str]:
    """Return the words by name, with what is left out.

    Raises:
        RequestError: one is wrong, or missing.
    """
    given = dict.fromkeys(WORDS, "") | {name: value.strip() for name, _, value in (word.partition("=") for word in words)}
    if stray := [name for name in given if name not in WORDS]:
        raise RequestError(f"deploy takes no settings, got {stray[0]}: runs elsewhere read params.yaml, so put it there")
    kind = given["pool"]
    if kind not in KINDS:
        what = "got nothing" if not kind else f"got {kind}{did_you_mean(kind, KINDS)}"
        raise RequestError(f"POOL must be {', '.join(KINDS[:-1])} or {KINDS[-1]}, {what}: make deploy POOL=docker NAME=gpu")
    given["name"] = name = given["name"] or f"posttrain-{kind}"
    if kind == KUBERNETES and not LABEL.fullmatch(name):
        raise RequestError(
            f"NAME must be a name of Kubernetes, got {name!r}: small letters, digits and -, at most 50, with a letter or digit "
            "at both ends"
        )
    if checked_name(name) == WORK_POOL:
        raise RequestError(f"NAME must not be {WORK_POOL}, which is the pool of make up's own worker")
    if kind == PROCESS and given["image"]:
        raise RequestError("IMAGE is of POOL=docker and POOL=kubernetes: a process runs in a checkout")
    if kind == KUBERNETES and not given["image"]:
        raise RequestError("POOL=kubernetes needs IMAGE, which the cluster can pull: IMAGE=registry.example.org/posttrain:1")
    if kind == DOCKER and not given["image"]:
        given["image"] = f"{name.lower()}:latest"
    if given["image"] and not IMAGE.fullmatch(given["image"]):
        raise RequestError(f"IMAGE must be the reference of an image, such as posttrain:1, got {given['image']!r}")
    if given["force"] not in ("", "0", "1"):
        raise RequestError(f"FORCE must be 1 (write over files that were changed) or 0, got {given['force']}")
    if not re.fullmatch(r"[\w./-]*", given["to"]):
        raise RequestError(f"TO must be a folder of letters, digits and ./_-, got {given['to']!r}")
    given["to"] = given["to"].rstrip("/") or "deploy"
    return given


def _command(given: Mapping[str, str]) -> str:
    """Return the command that makes the same files, with all that it does not take from params.yaml."""
    told = {"POOL": given["pool"], "NAME": given["name"], "IMAGE": given["image"]}
    told["TO"] = given["to"] if given["to"] != "deploy" else ""
    return " ".join(["make deploy", *(f"{name}={value}" for name, value in told.items() if value)])


# --- what is checked --------------------------------------------------------------------------------------------------


def _api(paths: Paths) -> str:
    """Return the address of Prefect's API.

    Raises:
        RequestError: none is known.
    """
    service = running(paths, PREFECT)
    if api := os.environ.get("PREFECT_API_URL", "") or (f"{service.site}/api" if service else ""):
        return api
    raise RequestError(
        "make deploy must know Prefect's server, and none runs here. Start it: make up; or say PREFECT_API_URL=http://HOST:4200/api"
    )


def _notes(config: Config, kind: str, api: str) -> list[str]:
    """Return a line for all that works on this machine alone.

    Raises:
        RequestError: a container could not reach a server.
    """
    wrong = []
    if _is_local(api):
        wrong.append(
            f"PREFECT_API_URL is {api}, which no other machine and no container reaches: let Prefect's server listen beyond this "
            "machine (docs/services.md), and say PREFECT_API_URL=http://HOST:4200/api"
        )
    uri = config.tracking.uri
    if urlsplit(uri).scheme not in ("http", "https") or _is_local(uri):
        shown = uri or "empty, which is a SQLite file in each folder"
        wrong.append(
            f"tracking.uri in params.yaml is {shown}: runs elsewhere would not write into one ledger. Name MLflow's server: "
            "tracking.uri=http://HOST:5000"
        )
    if wrong and kind != PROCESS:
        raise RequestError(wrong[0])
    notes = [f"note: {line}" for line in wrong]
    if not config.store.uri:
        notes.append(
            "note: store.uri in params.yaml is empty, so workers do not see each other's finished stages, and make them again "
            "(docs/scale.md)"
        )
    elif config.store.uri.startswith("file:") and kind != PROCESS:
        notes.append(f"note: store.uri is {config.store.uri}: mount that folder into the containers as well, at the same place")
    return notes


def _is_local(address: str) -> bool:
    return (urlsplit(address).hostname or "") in (*LOOPBACK, "::1", "0.0.0.0")


def _deployed(given: Mapping[str, str], config: Config, api: str) -> Deployed:
    scheme = urlsplit(config.store.uri).scheme
    secrets = (*(LOGIN if config.servers.password else ()), *OF_STORES.get(scheme, ()))
    return Deployed(
        kind=given["pool"],
        name=given["name"],
        folder=f"{given['to']}/{given['name']}",
        api=api,
        image=given["image"],
        extras=("store", "s3") if config.store.uri else ("s3",),
        secrets=secrets,
        values={name: os.environ[name] for name in NO_SECRETS if os.environ.get(name)},
        password=config.servers.password,
        gpus=0 if config.model.base == TINY else config.model.processes,
        prefect=version("prefect"),
    )


def _secrets(what: Deployed) -> str:
    if what.kind == DOCKER:
        return f"note: worker.sh takes {', '.join(what.secrets)} from its shell, and keeps them as Prefect's secrets"
    told = " ".join(f'--from-literal={name}="${name}"' for name in what.secrets)
    return f"note: runs and worker take their secrets from one Secret: kubectl create secret generic {what.name} {told}"


# --- what is written --------------------------------------------------------------------------------------------------


def write(paths: Paths, what: Deployed, *, command: str, is_forced: bool) -> None:
    """Write the files, each with a first line that says which command made it, and by which a later one sees what was changed.

    Raises:
        RequestError: a file was changed by hand, or is none of ours.
        StorageError: one cannot be written.
    """
    folder = paths.root / what.folder
    wanted = {folder / name: marked(name, text, command) for name, text in files_of(what).items()}
    for file in wanted:
        if file.exists() and not is_forced and not _is_as_made(file):
            raise RequestError(
                f"{what.folder}/{file.name} was changed since it was made. Move it away, or write over it: FORCE=1"
            )
    with storage_errors("make deploy", folder):
        folder.mkdir(parents=True, exist_ok=True)
        # all of them whole in a folder of their own, before the first takes its place
        with TemporaryDirectory(prefix=".new-", dir=folder) as unfinished:
            for file, text in wanted.items():
                (Path(unfinished) / file.name).write_text(text, encoding="utf-8")
            for file in wanted:
                (Path(unfinished) / file.name).replace(file)


def marked(name: str, text: str, command: str) -> str:
    """Return a file's text behind its first line; JSON, which has no comments, tells it as a key that Prefect passes over."""
    told = f"{MADE}{command}; what follows: {_digest(text)}"
    if name.endswith(".json"):
        body = text.removeprefix("{")
        return f'{{"made": {json.dumps(f"{MADE}{command}; what follows: {_digest(body)}")},{body}'
    return f"# {told}\n{text}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:DIGITS]


def _is_as_made(file: Path) -> bool:
    """Tell whether a file is what a command of ours wrote."""
    try:
        first, _, rest = file.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return False
    if file.suffix == ".json":
        rest = f"\n{rest}"
    found = re.search(rf"{MADE}make deploy .*; what follows: ([0-9a-f]{{{DIGITS}}})", first)
    return found is not None and found[1] == _digest(rest)
