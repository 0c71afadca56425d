"""`make serve`: a registered version behind an OpenAI-compatible server of this machine, until Ctrl-C.

The server is `vllm serve` where vLLM is installed and there is a GPU, else `transformers serve`.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.named_models import default_names, version_named
from models.shots import shots_in
from posttrain.errors import ContractError, RequestError
from posttrain.printable import printable
from posttrain.promotion.moves import CHAMPION
from posttrain.settings.config import Config
from tasks.services.processes import end_with_descendants, is_free, wait_until_well
from tasks.workspace.paths import Paths

Say = Callable[[str], None]
HOST = "127.0.0.1"
FIRST_PORT = 8000
"""The usual one of both servers."""
PORTS_TRIED = 20
NEEDED = ("fastapi", "uvicorn")
"""What `transformers serve` needs beside transformers."""


def serve(paths: Paths, config: Config, say: Say, *, version: str, port: int | None) -> None:
    """Serve a version, say how it is asked, and end with Ctrl-C.

    Args:
        paths: of the repository.
        config: its dataset names the registered model.
        say: prints one line for the user.
        version: number or alias; "": the champion.
        port: that was asked for; None: the first from `FIRST_PORT` on that is free.

    Raises:
        RequestError: there is no such version, no server can run, or the port is taken.
        StorageError: files of the version are gone or damaged, or the server does not come up.
        ContractError: the server ended by itself.
    """
    chosen = choose_port(port)
    if not version and default_names(paths, config) != [CHAMPION]:
        raise RequestError("there is no champion to serve. Name a version: make serve VERSION=3")
    name, number, folder = version_named(paths, config, version or CHAMPION, say)
    command = server_command(folder, chosen)
    if shots_in(folder):
        say("note: this model is prompted by shots.json, which the server does not know: put its text before each prompt")
    paths.store.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="serve-", dir=paths.store) as scratch:
        log = Path(scratch) / "server.log"
        with log.open("wb") as output:
            # in our own group, so that the terminal's Ctrl-C reaches it as well; the environment has it offline
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            site = f"http://{HOST}:{chosen}"
            wait_until_well("The model's server", f"{site}/health", process, log=log)
            print(printable(f"version {number} of {name} answers at {site}/v1 ({command_name(command)}; Ctrl-C ends it)"))
            print(printable(request_of(site, folder)), flush=True)
            code = process.wait()
        except KeyboardInterrupt as error:
            if str(error):  # the output is gone, which is no wish to end
                raise
            return
        finally:
            if process.poll() is None:
                end_with_descendants(process.pid)
                process.wait()
        last = next((line for line in reversed(log.read_text(errors="replace").splitlines()) if line.strip()), "it said nothing")
    raise ContractError(f"the model's server ended by itself with {code}: {last.strip()}")


def choose_port(asked: int | None) -> int:
    """Return the port to serve at.

    Raises:
        RequestError: another program listens at the port that was asked for, or at each that was tried.
    """
    if asked is not None:
        if not is_free(asked):
            raise RequestError(
                f"port {asked} must be free for the model's server, but another program listens there. Leave PORT out for the "
                f"first free one from {FIRST_PORT} on, or take another: make serve PORT={asked + 1}"
            )
        return asked
    found = next((port for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if is_free(port)), None)
    if found is None:
        raise RequestError(
            f"one of the ports {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} must be free for the model's server, and other "
            "programs listen at all of them. Name one that is free: make serve PORT=9000"
        )
    return found


def server_command(folder: Path, port: int, *, is_there: Callable[[str], bool] | None = None) -> list[str]:
    """Return the command of a server for a model's folder; for this machine alone, so that no stranger of the network asks it.

    Args:
        folder: of the model.
        port: to listen at.
        is_there: whether a package is installed; None: looked up.

    Raises:
        RequestError: no server is installed.
    """
    is_there = is_there or (lambda package: find_spec(package) is not None)
    if is_there("vllm") and _has_gpu():
        return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(folder), "--host", HOST, "--port", str(port)]
    if missing := [package for package in NEEDED if not is_there(package)]:
        raise RequestError(
            f"no server can run here: transformers serve lacks {' and '.join(missing)}. Install: "
            ".venv/bin/pip install 'transformers[serving]', or on a GPU: .venv/bin/pip install vllm"
        )
    start = "from transformers.cli.transformers import main; main()"
    return [sys.executable, "-c", start, "serve", str(folder), "--host", HOST, "--port", str(port)]


def command_name(command: Sequence[str]) -> str:
    """Return the server's name for a sentence."""
    return "vllm serve" if "vllm.entrypoints.cli.main" in command else "transformers serve"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def request_of(site: str, folder: Path) -> str:
    """Return the command line that asks the server something; both servers know the model by its folder."""
    body = {
        "model": str(folder),
        "messages": [{"role": "user", "content": "Tom has 12 apples, finds 5. How many?"}],
        "max_tokens": 64,
        "temperature": 0,
    }
    told = json.dumps(body, ensure_ascii=False)
    return f"curl {site}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(told)}"
