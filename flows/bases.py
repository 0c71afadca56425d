"""The base that a run starts from, before anything runs: a GGUF file is converted, once; what cannot be loaded is refused."""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from posttrain.errors import RequestError
from posttrain.printable import printable
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from tasks.base_model.identity import TINY, Files, files_of
from tasks.base_model.packaged import gguf_file
from tasks.workspace.artifacts import file_digest
from tasks.workspace.keys import Contents, NotDeciding
from tasks.workspace.paths import Paths

BASE, JUDGE = "model.base", "judge.model"
STAGE, COMPUTE = "gguf", "tasks.base_model.gguf:convert"
SECONDS = 10
"""That a server has to say that it is well."""
Say = Callable[[str], None]
_told: set[str] = set()
"""What this process has said of bases."""


def to_stderr(line: str) -> None:
    """Print a line for the user."""
    print(printable(line), file=sys.stderr, flush=True)


def locate_base(paths: Paths, model: ModelSettings, *, say: Say = to_stderr) -> None:
    """See that a base can be loaded, and let `model.source` say from where.

    Args:
        paths: of the repository, whose store keeps what was converted.
        model: which base.
        say: prints one line, where a package is installed, a file converted, or something of the base changed.

    Raises:
        RequestError: there is no such base, none that can be read, or its tokenizer does not belong to it.
        StorageError: the disk refuses.
    """
    if model.base == TINY:
        return
    find_base(paths, model, say=say)
    for note in _checked(model.source, model.revision, files_of(Path(model.source))):
        if note not in _told:  # each method of a comparison has its base located
            _told.add(note)
            say(note)


@cache
def _checked(source: str, revision: str | None, files: Files) -> tuple[str, ...]:
    """Check a base once a process and state of its files, and return what is changed in it: seconds for a real tokenizer."""
    from models.load import check_base, hub_commit
    from models.shipped import notes_on

    check_base(source)
    if not Path(source).is_dir():
        hub_commit(source, revision=revision)
    return tuple(notes_on(source, revision=revision))


def find_base(paths: Paths, model: ModelSettings, *, say: Say = to_stderr) -> None:
    """Let `model.source` say where a base was converted to that is a GGUF file; it is not looked into.

    Raises:
        RequestError: there is no such file, or none that can be read.
        StorageError: the disk refuses.
    """
    if file := gguf_file(model.base, say=say):
        model.load_from(converted(paths, file.resolve(), told=f"{BASE}={model.base}", say=say))


def find_judge(paths: Paths, judge: JudgeSettings, *, say: Say = to_stderr) -> None:
    """Let `judge.source` say where a local judge was converted to that is a GGUF file; it is not looked into.

    Raises:
        RequestError: there is no such file, or none that can be read.
        StorageError: the disk refuses.
    """
    if judge.backend == "local" and (file := gguf_file(judge.model, say=say, setting=JUDGE)):
        judge.load_from(converted(paths, file.resolve(), told=f"{JUDGE}={judge.model}", say=say))


def locate_judge(paths: Paths, judge: JudgeSettings, *, say: Say = to_stderr) -> None:
    """See that a local judge of its own can be loaded, and let `judge.source` say from where.

    Args:
        paths: of the repository, whose store keeps what was converted.
        judge: who; not the pipeline's base.
        say: prints one line, where a package is installed or a file converted.

    Raises:
        RequestError: there is no such model, or none that can be read.
        StorageError: the disk refuses.
    """
    find_judge(paths, judge, say=say)
    from models.load import check_base

    check_base(judge.source, setting=JUDGE, default="base")


def check_quantized(model: ModelSettings, ppo: PPOSettings) -> None:
    """Refuse weights in 4 bits where nothing computes with them.

    Raises:
        RequestError: there is no GPU, bitsandbytes is missing, or the engine that draws responses has no use for them.
    """
    if model.quantization == "none":
        return
    if not ppo.samples_itself:
        raise RequestError(
            f"ppo.engine={ppo.engine} copies weights that are whole, and model.quantization={model.quantization} has none. Say "
            "ppo.engine=transformers"
        )
    from models.load import device
    from models.quantization import check_quantization

    check_quantization(model, on=device())


def check_engine(ppo: PPOSettings, *, asks: bool = False) -> None:
    """Refuse an engine that cannot draw responses here.

    Args:
        ppo: name the engine.
        asks: whether a server that it names is asked, too.

    Raises:
        RequestError: there is no GPU, vLLM is missing, or its server does not answer.
    """
    if ppo.engine != "vllm":
        return
    from models.load import device
    from models.vllm_engine import check_vllm

    check_vllm(on=device(), url=ppo.engine_url)
    if asks and ppo.engine_url:
        check_answers(ppo.engine_url)


def check_answers(url: str) -> None:
    """Refuse a vLLM server that does not say that it is well.

    Args:
        url: of the server, as `ppo.engine_url` has it.

    Raises:
        RequestError: it does not.
    """
    try:
        with urlopen(f"{url.rstrip('/')}/health", timeout=SECONDS):
            return
    except (OSError, ValueError) as error:  # a refused connection, an answer that is an error, no such host, no address
        inner = getattr(error, "reason", None)
        reason = str(inner if isinstance(inner, Exception) else error).partition("\n")[0]
        raise RequestError(
            f"ppo.engine_url={url}: no vLLM server answers there ({reason}). Start one as docs/scale.md says, or leave "
            "ppo.engine_url out, and vLLM runs within the stage"
        ) from None


def converted(paths: Paths, file: Path, *, told: str, say: Say) -> str:
    """Return the directory that a GGUF file was converted into; relative where that is below the working directory."""
    status = file.stat()
    return _converted(paths.root, file, (status.st_mtime_ns, status.st_size), told, say)


@cache
def _converted(root: Path, file: Path, version: tuple[int, int], told: str, say: Say) -> str:
    """Convert once a process and version of the file, which is read whole to tell one from another."""
    # Prefect, which flows.run brings, takes seconds to import
    from flows.run import made_alone

    digest = file_digest(file)
    names: dict[str, Any] = {"file": NotDeciding(file.name), "told": NotDeciding(told)}
    begins = f"{told.partition('=')[2]}: converting {file.name} (SHA-256 {digest[:12]}…) to safetensors, once"
    folder = Contents(file.parent, digest)
    artifact = made_alone(Paths(root), STAGE, COMPUTE, say=say, begins=begins, folder=folder, **names)
    made, here = artifact.path / "model", Path.cwd()
    return str(made.relative_to(here) if made.is_relative_to(here) else made)
