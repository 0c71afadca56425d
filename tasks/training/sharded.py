"""Training in which each process keeps a part of the weights: by FSDP2 or DeepSpeed's ZeRO-3, through TRL's trainers or not."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from models import sharding
from models.load import dtype, load_model
from models.lora import adapted, merged
from models.processes import is_first, processes
from models.sharding import is_fsdp, is_sharded, shard, whole
from posttrain.errors import ContractError, RequestError
from posttrain.settings.model import ModelSettings
from tasks.workspace.weights import save, source_of


def is_zero(model: ModelSettings) -> bool:
    """Return whether the processes of this stage share the weights by DeepSpeed's ZeRO-3."""
    return model.sharding == "deepspeed" and processes() > 1


def home(model: ModelSettings) -> torch.device:
    """Return where weights to train are loaded, as `models.sharding` has it; for DeepSpeed on the CPU too."""
    return torch.device("cpu") if is_zero(model) else sharding.home(model)


def sharding_arguments(model: ModelSettings, *, checkpointing: bool) -> dict[str, Any]:
    """Return what TRL's `Config` takes of how weights are shared, and of activations that are computed again.

    Args:
        model: how it is loaded.
        checkpointing: whether each block's input alone is kept.
    """
    if is_fsdp(model):
        return {
            "fsdp": True,
            # of TRL's own two ways the other one gathers a block twice in the backward pass
            "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT", "activation_checkpointing": checkpointing},
            "activation_checkpointing": False,
            # else each process keeps whole gradients until the last part of a batch
            "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
        }
    if is_zero(model):
        return {"deepspeed": zero_3(half=dtype(model) == torch.bfloat16), "activation_checkpointing": checkpointing}
    return {"activation_checkpointing": checkpointing}


def zero_3(*, half: bool) -> dict[str, Any]:
    """Return DeepSpeed's configuration; transformers puts in what is `auto`.

    Args:
        half: whether it computes in bfloat16; it saves whole weights in the number format that it computes in.
    """
    sizes = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "bf16": {"enabled": half},
        **dict.fromkeys(sizes, "auto"),
    }


class Sharded:
    """What a trainer of TRL's needs beside its arguments where FSDP2 shares the weights; it changes nothing elsewhere."""

    args: Any
    model: Any

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, which shards the model when training begins."""
        parent: Any = super()
        if self.args.fsdp_plugin_args is None:
            parent.create_accelerator_and_postprocess()
            return
        if self.args.bf16:
            # accelerate's own policy would sum gradients in bfloat16, and round log-probabilities to it
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
            self.args.fsdp_plugin_args["mixed_precision_policy"] = policy
        _let_cpus_shard()
        parent.create_accelerator_and_postprocess()

    def compute_loss(self, *args: Any, **how: Any) -> Any:
        """Return the loss of one part.

        Raises:
            RequestError: the output layer would learn from this process's part of a batch alone.
        """
        parent: Any = super()
        loss = parent.compute_loss(*args, **how)
        head = self.model.get_output_embeddings()
        # TRL multiplies by the output layer's weights itself. They are whole after the pass through the layers where accelerate
        # has put them into one group with the last norm, which it finds in most architectures
        if head is not None and isinstance(head.weight, DTensor) and head.weight.requires_grad:
            raise RequestError(
                f"model.sharding=fsdp: this architecture ({self.model.config.model_type}) has its last norm where accelerate "
                "does not find it, so that gradients of its output layer would not be summed over the processes. Say "
                "model.sharding=none, or train adapters: model.lora_rank=16"
            )
        return loss


def _let_cpus_shard() -> None:
    """Let Accelerate take its FSDP plugin on CPUs too: version 1.15 looks at it on accelerators alone, and says nothing.

    The kind that it is told is a word to it, for it goes by `device` and `backend`; with the plugin it becomes FSDP.
    """
    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU


class WithReference(Sharded):
    """A trainer whose reference, where it is given one in parts, computes its log-probabilities beforehand and is let go.

    TRL would gather such a model as one block, and keep it. Its `Config` says `precompute_ref_log_probs=False` then.
    """

    def __init__(self, *args: Any, ref_model: Any = None, **how: Any) -> None:
        parent: Any = super()
        parent.__init__(*args, ref_model=ref_model, **how)
        if ref_model is None:
            return
        trainer: Any = self
        # part of a file's name, which TRL makes of the weights; this process has no other reference
        trainer._precompute_model_hash = "in parts"
        rows = trainer._precompute_ref_logps(trainer.train_dataset, "train", self.args.per_device_train_batch_size)
        trainer.train_dataset, trainer.precompute_ref_logps, trainer.ref_model = rows, True, None


def to_train(start: Path, model: ModelSettings) -> Any:
    """Return the model of an artifact, whole, where a trainer takes it from."""
    source, revision = source_of(start)
    # arguments with DeepSpeed, once made, let transformers load in parts: one process alone would wait for the others
    unset_hf_deepspeed_config()
    return load_model(source, model, on=home(model), revision=revision, train=True)


def with_reference(start: Path, model: ModelSettings) -> dict[str, Any]:
    """Return the model of an artifact for a trainer that is its own reference, and that in parts where the model is to be.

    Args:
        start: artifact of the model.
        model: how it is loaded.

    Returns:
        `model` and `ref_model`; None where TRL has the reference by itself.
    """
    reference = shard(to_train(start, model).requires_grad_(False)) if is_fsdp(model) else None
    return {"model": to_train(start, model), "ref_model": reference}


def with_adapters(start: Path, model: ModelSettings) -> Any:
    """Return the model of an artifact on the CPU, with adapters as a training of it in parts has them, if it has."""
    return adapted(to_train(start, model).to("cpu"), model, task="CAUSAL_LM", seed=0)


def save_trained(trainer: Any, tokenizer: Any, folder: Path, *, start: Path, model: ModelSettings) -> None:
    """Write the model that a trainer has trained, whole; every process takes part, and the first one writes.

    Args:
        trainer: of TRL's.
        tokenizer: saved with it.
        folder: of both.
        start: artifact that training started from.
        model: how that is loaded.
    """
    network: Any = trainer.model
    make = partial(with_adapters, start, model)
    if trainer.is_deepspeed_enabled:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        network = make() if is_first() else None
        if network is not None:
            network.load_state_dict(state)
            _take_configs(network, trainer.model)
    elif is_sharded(network):
        network = whole_copy(network, make)
    if network is not None:
        save(merged(network), tokenizer, folder)


@torch.no_grad()
def whole_copy(network: Any, make: Callable[[], Any], *, everywhere: bool = False) -> Any:
    """Return a network of its own with all weights of one in parts; None on a process that gets none. All must ask for it.

    Args:
        network: in parts.
        make: returns one of the same weights' names.
        everywhere: whether every process gets one, and not the first alone.
    """
    copy = make() if everywhere or is_first() else None
    parts, weights = network.state_dict(), {} if copy is None else copy.state_dict()
    if copy is not None and weights.keys() != parts.keys():
        other = sorted(weights.keys() ^ parts.keys())[0]
        raise ContractError(
            f"a model in parts has other weights than the model that it is saved as ({other}). We did not expect that"
        )
    for name, part in parts.items():
        weight = whole(part)
        if copy is not None:
            weights[name].copy_(weight)
    if copy is not None:
        _take_configs(copy, network)
    return copy


def _take_configs(copy: Any, network: Any) -> None:
    """Give a copy what training has changed beside weights."""
    mine, theirs = (one.get_base_model() if hasattr(one, "get_base_model") else one for one in (copy, network))
    mine.config = theirs.config
    if hasattr(mine, "generation_config"):
        mine.generation_config = theirs.generation_config
