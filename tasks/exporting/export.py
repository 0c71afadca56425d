"""A version's files in the form that was asked for, its card, and the test whether they answer as it was evaluated."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from models.shots import SHOTS
from posttrain.evaluation.parity import Parity, Rows, parity
from posttrain.records import Question
from posttrain.settings.evaluation import EvaluateSettings
from posttrain.settings.model import ModelSettings
from tasks.base_model.gguf import convert
from tasks.evaluation.version import evaluate_version
from tasks.exporting.folder import RECORD
from tasks.exporting.forms import GGUF
from tasks.exporting.gguf_file import write_gguf
from tasks.promotion.card_files import has_card
from tasks.tracking.model_files import CARD
from tasks.workspace.jsonl import PROBLEMS, read_rows, write_rows
from tasks.workspace.quiet import quiet_libraries

GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Version:
    """A version that is exported.

    Attributes:
        name: of the registered model.
        number: of the version.
        folder: of its files.
        digest: that it was registered with.
    """

    name: str
    number: str
    folder: Path
    digest: str

    @property
    def title(self) -> str:
        """What it is called in sentences."""
        return f"{self.name} version {self.number}"


@dataclass(frozen=True)
class Measured:
    """The evaluation that an export is held against.

    Attributes:
        rows: of its `problems.jsonl`, those that are asked again.
        model: how the model was loaded.
        settings: how it was asked.
        context: tokens of prompt and response together.
        seed: of the samples.
        pipeline_id: that measured it.
    """

    rows: Rows
    model: ModelSettings
    settings: EvaluateSettings
    context: int
    seed: int
    pipeline_id: str


def write_files(version: Version, out: Path, *, form: str, precision: str) -> Path | None:
    """Write the files of an export but for card and record; return the GGUF file, where there is one.

    Raises:
        RequestError: a weight has no place in a GGUF file.
        OSError: the disk refuses.
    """
    if form == GGUF:
        file = out / f"{version.name}-{version.number}-{precision}.gguf"
        write_gguf(version.folder, file, name=f"{version.name}-{version.number}", precision=precision)
        if (version.folder / SHOTS).is_file():
            shutil.copyfile(version.folder / SHOTS, out / SHOTS)
        return file
    for source in version.folder.iterdir():
        if source.is_file():
            shutil.copyfile(source, out / source.name)
    if not (out / GENERATION).is_file():
        from transformers import AutoConfig, GenerationConfig

        config = AutoConfig.from_pretrained(str(out), trust_remote_code=False)
        GenerationConfig.from_model_config(config).save_pretrained(out)
    return None


def held_against(out: Path, file: Path | None, measured: Measured, *, title: str, scratch: Path) -> Parity:
    """Ask the exported model what the version was asked, in the same way, and compare the answers.

    A GGUF file is read back first, as any reader of such files does, weights and tokenizer; so what the file lost shows.

    Args:
        out: folder of the export.
        file: its GGUF file; None where the folder itself is a model.
        measured: the evaluation.
        title: of the progress bar.
        scratch: where temporary files go.
    """
    with TemporaryDirectory(dir=scratch) as temporary:
        here = Path(temporary)
        model = out
        if file:
            with quiet_libraries():
                convert(here, _no_log, folder=file.parent, file=file.name, told=file.name)
            model = here / "model"
            if (out / SHOTS).is_file():
                shutil.copyfile(out / SHOTS, model / SHOTS)
        questions, answers = here / "questions", here / "answers"
        questions.mkdir()
        answers.mkdir()
        write_rows(questions / "held_out.jsonl", map(_question, measured.rows))
        evaluate_version(
            answers,
            _no_log,
            title=title,
            data=questions,
            part=None,
            version=model,
            model=measured.model,
            settings=measured.settings,
            context=measured.context,
            seed=measured.seed,
        )
        return parity(list(read_rows(answers / PROBLEMS)), measured.rows)


def _no_log(step: int, metrics: Mapping[str, float]) -> None:
    """Take no note: there is no curve."""


def _question(row: Mapping[str, Any]) -> dict[str, Any]:
    asked = {"id": row["id"], "prompt": row["prompt"], "answers": row["answers"]}
    return Question.model_validate(asked).model_dump(mode="json")


def write_card(version: Version, out: Path, *, form: str, precision: str, file: Path | None, says: str, found: Any) -> None:
    """Write the card of the version with a section on this export, and the record that a program reads.

    Args:
        version: that was exported.
        out: folder of the export.
        form: hf or gguf.
        precision: of a GGUF file.
        file: the GGUF file.
        says: how the export answers, as a sentence.
        found: the figures of that, None where nothing was compared.
    """
    known = (version.folder / CARD).read_text(encoding="utf-8") if has_card(version.folder) else f"# {version.title}\n"
    how = f"as GGUF, weights in {precision}" if file else "as it was registered"
    told = ["", "## This export", "", f"Version {version.number} of `{version.name}`, {how}.", "", f"Parity: {says}.", ""]
    if file:
        known = known.replace("library_name: transformers\n", "library_name: gguf\n", 1)
        told += [
            "```",
            f"llama-cli -m {file.name}",
            f'AutoModelForCausalLM.from_pretrained("this folder", gguf_file="{file.name}")   # and AutoTokenizer alike',
            "```",
            "",
        ]
    (out / CARD).write_text(known.rstrip("\n") + "\n" + "\n".join(told), encoding="utf-8")
    record = {
        "schema": "posttrain.export/1",
        "model": version.name,
        "version": version.number,
        "weights_sha256": version.digest,
        "format": form,
        "precision": precision if file else None,
        "file": file.name if file else None,
        "parity": found,
        "says": says,
    }
    (out / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
