"""Fabricated results: methods whose answers are drawn, so that every number of a record can be worked out again."""

import numpy as np

from posttrain.comparison.results import Design, MethodResult, Question, SeedResult

ACCURACY = Design("accuracy", "held-out questions answered right", "share", higher_is_better=True, reference="sft")
LOSS = Design("loss", "negative log-likelihood of the reference", "nats", higher_is_better=False, reference="sft", margin=0.05)
FACTS = {
    "id": "20261128-174500-3f2a",
    "created": "2026-11-28T17:45:00+00:00",
    "source": "pipelines",
    "command": 'make compare METHODS="sft dpo reft" SEEDS=3',
}
SKILLS = {"sft": -0.4, "dpo": 0.6, "reft": 0.8}


def questions(count=66):
    """Prompts with 2, 3 or 4 numbers, a third of the questions each."""
    return [
        Question(f"q{place}", " and ".join(str(10 + place + number) for number in range(2 + place % 3)), (str(place),), "story")
        for place in range(count)
    ]


def seed_result(seed, scores, *, samples=4, draw=None, **more):
    """Return a result with samples drawn around its scores, or none."""
    scores = np.asarray(scores, dtype=float)
    if samples:
        right = (draw.random((len(scores), samples)) < 0.2 + 0.6 * scores[:, None]).astype(float)
        wrong = draw.integers(0, 2, right.shape)
        more["sampled"] = right
        more["extracted"] = [
            ["right" if yes else [None, "wrong"][no] for yes, no in zip(row, other, strict=True)]
            for row, other in zip(right, wrong, strict=True)
        ]
        more["reward"] = draw.integers(0, 3, right.shape) + right
        more["reward_by"] = "reward model of dpo"
    return SeedResult(
        seed,
        scores,
        texts=[f"so {place}" for place in range(len(scores))],
        is_right=[bool(score == 1) for score in scores],
        costs={"train_seconds": 10.0 + seed, "flops": 2e9},
        metrics={"kl": 1.5 + seed, "response_tokens": 20.0, "win_rate": 0.6, "win_rate_low": 0.5, "win_rate_high": 0.7},
        run={"pipeline_id": f"p{seed}", "data_md5": "d" * 32},
        saw={"labels": 100 + seed, "labels_by": "simulated annotators"},
        notes=("gold is a program",),
        **more,
    )


def methods(skills=None, *, seeds=(0, 1, 2), count=66, samples=4, noise=0.3):
    """Return methods that answer right with a chance that depends on method, seed and question."""
    draw = np.random.default_rng(7)
    hardness = draw.normal(size=count)
    found = []
    for name, skill in (skills or SKILLS).items():
        by_seed = {}
        for seed in seeds:
            chance = 1 / (1 + np.exp(-(skill + hardness + noise * draw.normal())))
            by_seed[seed] = seed_result(seed, draw.random(count) < chance, samples=samples, draw=draw)
        found.append(MethodResult(name, name.upper(), "answers", (), by_seed))
    return found


def losses(skills=None, *, seeds=(0, 1, 2), count=66):
    """Return methods with a loss a question; `scores` are negated, as higher is better."""
    draw = np.random.default_rng(11)
    hardness = 2 + draw.random(count)
    found = []
    for name, skill in (skills or SKILLS).items():
        by_seed = {
            seed: seed_result(seed, -(hardness - 0.3 * skill + 0.02 * draw.normal() + 0.1 * draw.normal(size=count)), samples=0)
            for seed in seeds
        }
        found.append(MethodResult(name, name.upper(), "answers", (), by_seed))
    return found
