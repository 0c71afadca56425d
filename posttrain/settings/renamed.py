"""Settings, and values of them, that had another name: the old one is still taken, with a line that says the new one.

`rlaif.direct` became a method of its own, `drlaif`.
"""

from collections.abc import Mapping
from typing import Any

from posttrain.errors import RequestError

SETTINGS = {
    "dpo.most_steps": "dpo.max_steps",
    "dpo.warmup": "dpo.warmup_ratio",
    "evaluate.most_questions": "evaluate.max_questions",
    "judge.form": "judge.mode",
    "judge.kind": "judge.backend",
    "judge.least_conviction": "judge.min_conviction",
    "judge.most_flips": "judge.max_flips",
    "judge.most_unreadable": "judge.max_unreadable",
    "judge.practice": "judge.practice_steps",
    "ppo.discount": "ppo.gamma",
    "ppo.kl_horizon": "ppo.kl_controller_horizon",
    "ppo.kl_target": "ppo.kl_controller_target",
    "ppo.least_finished": "ppo.min_finished",
    "ppo.longest_growth": "ppo.max_length_growth",
    "ppo.mini_batch": "ppo.mini_batch_size",
    "ppo.most_gradient": "ppo.max_grad_norm",
    "ppo.most_step_kl": "ppo.target_kl",
    "ppo.sample_batch": "ppo.sample_batch_size",
    "ppo.warmup": "ppo.warmup_ratio",
    "reward_model.least_of_agreement": "reward_model.min_share_of_agreement",
    "reward_model.most_calibration_error": "reward_model.max_calibration_error",
    "reward_model.most_length_correlation": "reward_model.max_length_correlation",
    "reward_model.most_steps": "reward_model.max_steps",
    "reward_model.score_batch": "reward_model.score_batch_size",
    "reward_model.warmup": "reward_model.warmup_ratio",
    "sft.most_steps": "sft.max_steps",
    "sft.warmup": "sft.warmup_ratio",
    "split.most_held_out": "split.max_held_out",
    "validation.most_critical_share": "validation.max_critical_share",
    "validation.most_label_share": "validation.max_label_share",
    "validation.shortest_text": "validation.min_characters",
}
"""Old name → new name."""
YES, NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
VALUES = {("labels.source", "file"): "people"}
"""(setting, old value) → new value."""


def current(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values under the names of today, and a line for each that had another.

    Args:
        values: by dotted name, as somebody wrote them.

    Raises:
        RequestError: a setting is given under both of its names.
    """
    renamed: dict[str, Any] = {}
    notices = []
    for name, value in values.items():
        new = SETTINGS.get(name, name)
        if new != name:
            if new in values:
                raise RequestError(f"{name} is called {new} now, and both are given: leave {name} out")
            notices.append(f"{name} is called {new} now; the old name is still taken")
        is_text = isinstance(value, str)
        if is_text and (new, value.lower()) in VALUES:
            notices.append(f"{new}={value} is called {new}={VALUES[new, value.lower()]} now; the old name is still taken")
            value = VALUES[new, value.lower()]
        renamed[new] = value
    if (direct := str(renamed.pop("rlaif.direct", "")).lower()) != "":
        if direct not in (*YES, *NO):
            raise RequestError(f"rlaif.direct must be true or false, got {direct}; it is METHOD=drlaif now")
        notices.append("rlaif.direct is METHOD=drlaif now; the old setting is still taken")
        if direct in YES and str(renamed.get("method", "")).lower() == "rlaif":
            renamed["method"] = "drlaif"
    return renamed, notices
