"""The stage `gguf`: a model in one GGUF file, llama.cpp's form, becomes a directory of safetensors, that of transformers."""

import copy
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from posttrain.errors import RequestError
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.disk import storage_trouble


def convert(out: Path, log: Log, *, folder: Path, file: str, told: str) -> Outcome:
    """Write `model/`: weights in float32, so that nothing of the quantised ones is lost, tokenizer and generation config.

    Args:
        out: where to write.
        log: unused; there is no curve.
        folder: that holds the file.
        file: its name.
        told: how a user named it.

    Raises:
        RequestError: it is no GGUF file, is cut off, or holds an architecture that transformers does not read.
        OSError: the disk refuses.
    """
    target = out / "model"
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), gguf_file=file)
        network = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file=file, dtype=torch.float32)
        _plain(network).save_pretrained(target)
        tokenizer.save_pretrained(target)
        _drop_additions(target / "tokenizer.json", rows=network.get_input_embeddings().weight.shape[0])
    except Exception as error:  # a reader of a foreign format meets damage by any kind of error
        if storage_trouble(error):
            raise
        reason = str(error).strip().partition("\n")[0].rstrip(" .:") or type(error).__name__
        raise RequestError(f"{told}: it cannot be read as a GGUF model: {reason}. Nothing was kept") from None
    return Outcome(metrics={"parameters": sum(weight.numel() for weight in network.parameters())})


def _drop_additions(file: Path, *, rows: int) -> None:
    """Take away tokens that transformers adds to those of the file (GPT-2's `<|endoftext|>`) and the model does not have."""
    told = json.loads(file.read_text(encoding="utf-8"))
    told["added_tokens"] = [token for token in told["added_tokens"] if token["id"] < rows]
    file.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


def _plain(network: PreTrainedModel) -> PreTrainedModel:
    """Return the same model without the mark of a quantised one, with which transformers saves none."""
    config = copy.deepcopy(network.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(network.state_dict(), assign=True)
    plain.generation_config = network.generation_config
    return plain
