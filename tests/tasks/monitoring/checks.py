"""Records of checks that no run made, with the shape of schema posttrain.monitor/1."""

import copy

HOSTILE = "<img src=x onerror=alert(1)> | [link](javascript:alert(1)) \u202egnp.\x1b[2J"


def figures(median, *, script="Latin", unseen=None):
    length = {"5": median * 0.4, "25": median * 0.8, "50": median, "75": median * 1.4, "95": median * 3.0}
    told = {"length": length, "scripts": {script: 90, "no letters": 10}}
    if unseen is None:
        return told
    indices = {"length_psi": 0.123, "length_psi_by_chance": 0.045, "script_psi": 0.678, "script_psi_by_chance": 0.009}
    return {**told, **indices, "unseen_words": unseen}


DRIFTED = {
    "schema": "posttrain.monitor/1",
    "version": "0.1.0",
    "id": "20261128-221500-3f2a",
    "created": "2026-11-28T22:15:00+00:00",
    "command": "make monitor FILE=prompts.jsonl DATA=mine",
    "file": "prompts.jsonl",
    "dataset": {"name": "mine", "md5": "0123456789abcdef"},
    "settings": {
        "monitor.level": 0.05,
        "monitor.min_auc": 0.55,
        "monitor.permutations": 999,
        "monitor.score_margin": 0.02,
        "seed": 0,
    },
    "verdict": "The prompts have drifted: AUC 0.83, p = 0.001",
    "rule": "drift",
    "is_drift": True,
    "prompts": {
        "training": {"rows": 2_100, "different": 2_064, "compared": 1_000, "families": 998, "in_training": 1.0},
        "new": {"rows": 412, "different": 203, "compared": 203, "families": 187, "in_training": 0.034},
        "held_out": {"rows": 150, "different": 150, "compared": 150, "families": 149, "in_training": 0.0},
    },
    "test": {
        **{"auc": 0.8312, "p": 0.001, "critical": 0.5412, "sd": 0.0251, "foreign_share": 0.6624, "training": 1_000},
        **{"compared": 203, "smallest_auc": 0.5712, "smallest_share": 0.1424},
    },
    "calibration": {
        **{"auc": 0.4911, "p": 0.612, "critical": 0.5533, "sd": 0.0312, "foreign_share": 0.0, "training": 1_000},
        "compared": 150,
    },
    "permuted": [{"low": 0.44 + 0.02 * place, "high": 0.46 + 0.02 * place, "count": 10 * place + 3} for place in range(6)],
    "figures": {
        "training": figures(50.0),
        "new": figures(81.0, script="Cyrillic", unseen=0.211),
        "held_out": figures(52.0, unseen=0.01),
    },
    "words": [
        {"word": "bitte", "training": 0.0, "new": 0.314, "z": 8.76},
        {"word": "apples", "training": 0.402, "new": 0.097, "z": -6.54},
    ],
    "unlike": [{"prompt": "Bitte fasse den Text zusammen", "score": 0.912}, {"prompt": "слово", "score": -0.023}],
    "warnings": [],
    "score": None,
    "unscored": "the file has no answers",
    "alarms": ["prompts"],
}

SCORE = {
    **{"model": "posttrain-mine", "version": "7", "pipeline_id": "20261101-030000-dpo-1a2b", "data_md5": "89abcdef"},
    **{"answered": 1_204, "known": 31, "rule": "fallen", "is_alarm": True},
    "says": "The champion's score has fallen: version 7 answers 71.2 % of 500 fresh questions right",
    "fresh": {
        **{"questions": 500, "families": 497, "finished": 0.934},
        "accuracy": {"estimate": 0.712, "low": 0.671, "high": 0.75},
    },
    "gate": {
        **{"questions": 1_000, "families": 996, "finished": 0.987},
        "accuracy": {"estimate": 0.843, "low": 0.819, "high": 0.864},
    },
    "difference": {"estimate": -0.131, "low": -0.177, "high": -0.086},
    "smallest_fall": 0.0853,
    "wrong": [{"prompt": "Ann has 3 apples", "answers": "4", "response": "That makes 5"}],
    "warnings": [],
}


def drifted():
    return copy.deepcopy(DRIFTED)


def alike():
    """Return a check without drift, without held-out prompts and without a telling word."""
    made = drifted() | {"verdict": "No drift is seen: AUC 0.51, p = 0.400", "rule": "alike", "is_drift": False, "alarms": []}
    made |= {"calibration": None, "words": [], "warnings": ["The dataset has 0 different held-out prompts"]}
    made["test"] |= {"auc": 0.512, "p": 0.4, "foreign_share": 0.024}
    made["prompts"]["held_out"] = {"rows": 0, "different": 0, "compared": 0, "families": 0, "in_training": None}
    del made["figures"]["held_out"]
    return made


def fallen():
    """Return a check of prompts of the same kind, which the champion answers worse."""
    return alike() | {"score": copy.deepcopy(SCORE), "unscored": "", "alarms": ["score"]}


def hostile():
    """Return a check whose texts of others are markup and commands to a terminal."""
    made = drifted() | {"file": HOSTILE, "command": HOSTILE, "score": copy.deepcopy(SCORE), "unscored": ""}
    made["score"]["wrong"] = [dict.fromkeys(("prompt", "answers", "response"), HOSTILE)]
    made["unlike"][0]["prompt"] = made["words"][0]["word"] = HOSTILE
    return made
