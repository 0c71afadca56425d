"""QLoRA (arXiv:2305.14314): frozen weights in 4 bits under LoRA adapters that are trained; what is saved is whole again."""

import copy
import math
from importlib.util import find_spec
from typing import Any

import torch
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import BitsAndBytesConfig
from transformers.utils import logging

from posttrain.errors import RequestError
from posttrain.settings.model import ModelSettings

PACKAGE = "bitsandbytes"


def check_quantization(settings: ModelSettings, *, on: torch.device) -> None:
    """Refuse 4 bits where nothing computes with them.

    Args:
        settings: of the model.
        on: the device that trains.

    Raises:
        RequestError: there is no GPU, or bitsandbytes is missing.
    """
    if settings.quantization == "none":
        return
    asked = f"model.quantization={settings.quantization}"
    if on.type != "cuda":
        raise RequestError(
            f"{asked} saves memory of a GPU, and this machine has none that can be used. Train the adapters over whole weights: "
            "model.quantization=none"
        )
    if find_spec(PACKAGE) is None:
        raise RequestError(f"{asked} needs {PACKAGE}: .venv/bin/pip install -c constraints.txt -e '.[quantization]'")


def loaded_in_4_bits(settings: ModelSettings, *, kind: torch.dtype, on: torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` is given so that linear layers come in 4 bits; nothing where all stay whole.

    NF4 with double quantization, products in the model's number format (arXiv:2305.14314, sections 3 and 4). Embeddings, norms
    and the output layer stay as they are.

    Args:
        settings: of the model.
        kind: number format of products, and of what stays whole.
        on: device; the weights are quantized on it, layer by layer, as they are read.
    """
    if settings.quantization == "none":
        return {}
    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=kind
    )
    return {"quantization_config": how, "device_map": {"": on}}


def is_quantized(network: Any) -> bool:
    """Return whether some of a network's weights are in 4 bits."""
    return any(getattr(weight, "quant_state", None) is not None for weight in network.parameters())


def weights_in(weight: torch.nn.Parameter) -> int:
    """Return how many weights a tensor stands for: in 4 bits two lie in each byte of it, and DeepSpeed keeps them elsewhere."""
    state = getattr(weight, "quant_state", None)
    return int(getattr(weight, "ds_numel", weight.numel())) if state is None else math.prod(state.shape)


def merged_whole(model: Any) -> Any:
    """Return a model in 4 bits as a whole one, its adapters added to its weights, so that it loads without bitsandbytes.

    Adapters are added to the weights that they were trained over, which are those that 4 bits stand for, and not the ones from
    before quantization; and the sum is not rounded to 4 bits, as a merge within the quantized layers would.

    Args:
        model: with adapters (peft), trained over weights in 4 bits; it is used up.
    """
    kind = model.peft_config["default"]
    adapters = {name: weight.clone() for name, weight in get_peft_model_state_dict(model).items()}
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # of the number format, which is the model's own
    try:
        whole = model.unload().dequantize()
    finally:
        logging.set_verbosity(before)
    whole.is_loaded_in_4bit = False  # transformers leaves it, and trainers read it
    plain = get_peft_model(whole, copy.deepcopy(kind))
    set_peft_model_state_dict(plain, adapters)
    return plain.merge_and_unload()
