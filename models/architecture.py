"""Which architectures can be a base, told from a configuration alone."""

from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    PreTrainedConfig,
)

from posttrain.errors import RequestError

TAKE = "Take a causal language model, such as a Llama, Qwen, Mistral, Gemma or GPT-2"
_OTHER_SENSES = ("vision_config", "audio_config", "speech_config")


def check_architecture(config: PreTrainedConfig, *, named: str) -> None:
    """Refuse what is no causal language model of text alone.

    BERT and its relatives have a causal class in transformers too, so those count as encoders unless their configuration says
    `is_decoder`.

    Args:
        config: of the model.
        named: how a user named it, such as `model.base=./folder`.

    Raises:
        RequestError: it is an encoder, has one beside its decoder, reads more than text, or is no language model.
    """
    if reason := _objection(config):
        raise RequestError(f"{named}: its architecture ({config.model_type}) {reason}")


def _objection(config: PreTrainedConfig) -> str:
    """Return why an architecture cannot serve and what to do, behind its name; empty where it can."""
    kind = type(config)
    if getattr(config, "is_encoder_decoder", False):
        return f"has an encoder beside its decoder, and only decoders are trained here. {TAKE}"
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or any(hasattr(config, name) for name in _OTHER_SENSES):
        return (
            "reads more than text, and only text is trained here. Take a model of text alone, or save its language model as one"
        )
    if kind in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return f"is an encoder: its prediction of a token depends on later ones, so it cannot write. {TAKE}"
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"is no causal language model in transformers. {TAKE}"
    return ""


def without_router_logits(network: Any) -> Any:
    """Return the network, whose forward pass no longer returns the router logits of a mixture of experts.

    They belong to the auxiliary loss that balances experts. TRL's trainers ask for them by themselves where the configuration
    has a coefficient (`router_aux_loss_coef`), and leave a configuration that returns them from every pass.
    """
    config = network.config.get_text_config()
    if getattr(config, "output_router_logits", False):
        config.output_router_logits = False
    return network
