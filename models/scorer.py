"""A causal model's trunk with a linear score at a sequence's last token, whatever the architecture.

Where transformers has a class for sequence classification whose head is a linear layer `score`, that class is taken, so that
plain transformers reads what is saved. Else one is made of the architecture's own trunk; its files are read here alone.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

_SUFFIX = "WithScore"
"""Ends the name of a class that is made here, in the configuration's `architectures`."""


def scorer_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class that a new reward model of this architecture has.

    Args:
        config: of the causal model.

    Raises:
        ValueError: transformers has no causal model of this architecture.
    """
    theirs = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if theirs is not None:
        with torch.device("meta"):
            head = getattr(theirs(config), "score", None)
        if isinstance(head, nn.Linear):
            taken: type[PreTrainedModel] = theirs
            return taken
    return _made_class(type(config))  # type: ignore[arg-type]  # a class is hashable


def saved_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """Return the class that is made here and that a configuration was saved by; None for one of transformers."""
    names = config.architectures or []
    is_made = any(name.endswith(_SUFFIX) for name in names)
    return _made_class(type(config)) if is_made else None  # type: ignore[arg-type]


@cache
def _made_class(kind: type[PreTrainedConfig]) -> type[PreTrainedModel]:
    causal = MODEL_FOR_CAUSAL_LM_MAPPING.get(kind, None)
    if causal is None:
        raise ValueError(f"transformers has no causal language model of the architecture {kind.model_type}")
    family = next(each for each in causal.__mro__[1:] if issubclass(each, PreTrainedModel))
    name = causal.__name__.removesuffix("ForCausalLM").removesuffix("LMHeadModel") + _SUFFIX
    # transformers looks into the source of a class's module for what the family can do
    return type(name, (_Scored, family), {"base_model_prefix": causal.base_model_prefix, "__module__": causal.__module__})


class _Scored:
    """What a made class has beside its family's loading, saving and initialising."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)  # type: ignore[call-arg]  # the family's
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, AutoModel.from_config(config))  # type: ignore[attr-defined]
        self.score = nn.Linear(config.get_text_config().hidden_size, config.num_labels, bias=False)
        self.post_init()  # type: ignore[attr-defined]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SequenceClassifierOutput:
        """Return `logits`, (batch, labels), of each row's last token.

        Args:
            input_ids: (batch, time), padded on the right.
            attention_mask: (batch, time), 1 on tokens; None: there is no padding.
        """
        trunk: Any = self.base_model  # type: ignore[attr-defined]
        states = trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        rows = torch.arange(len(states), device=states.device)
        last = states.shape[1] - 1 if attention_mask is None else attention_mask.sum(dim=1) - 1
        return SequenceClassifierOutput(logits=self.score(states[rows, last]))
