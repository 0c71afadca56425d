"""Comparisons that no run made, with the shape of schema posttrain.comparison/1, for tests of whatever shows one."""

import copy
import math
import random

SIX = {
    # name: title, learns from, level, simulated, labels, when to use
    "sft": ("SFT", "demonstrations", 0.621, [], 0, "Demonstrations are plenty and the task is narrow."),
    "dpo": ("DPO", "preferences, straight into the loss", 0.915, ["annotators"], 3_991, "Preferences are plenty."),
    "reft": ("ReFT", "a grader: a program checks the final answer", 0.942, [], 0, "A program can check the answers."),
    "rlhf": ("RLHF", "a reward model of preferences", 0.926, ["annotators"], 3_991, "Quality is a matter of taste."),
    "rlaif": ("RLAIF", "a reward model of an AI judge's preferences", 0.702, ["judge"], 4_000, "People's labels are too dear."),
    "ppo": ("PPO from base", "any reward that ppo.reward names", 0.634, [], 0, "There is a reward and no demonstration."),
}
TWELVE = SIX | {
    "few_shot": ("few-shot", "demonstrations in its prompt: nothing is trained", 0.305, [], 0, "Try it first."),
    "drlaif": ("RLAIF, direct, scored by a judge that is asked for each response", "an AI judge", 0.689, ["judge"], 0, ""),
    "kto": ("KTO", "which single responses win their pairs and which lose", 0.881, ["annotators"], 3_991, ""),
    "grpo": ("GRPO", "any reward that ppo.reward names", 0.938, [], 0, "Memory is short."),
    "rloo": ("RLOO", "any reward that ppo.reward names", 0.931, [], 0, ""),
    "self_training": ("self-training", "its own right samples", 0.927, [], 0, "There are right answers and little time."),
}
REWARDED = ("reft", "rlhf", "rlaif", "ppo", "grpo", "rloo", "drlaif")


def interval(estimate, half):
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def comparison(rows=None, *, seeds=3, unit="share", seed=0):
    """Return a whole comparison of the methods in `rows` (six by default)."""
    rows, chance = rows or SIX, random.Random(seed)
    methods = [method(name, row, list(range(seeds)), chance) for name, row in rows.items()]
    made = {
        "schema": "posttrain.comparison/1",
        "id": "20261128-174500-3f2a",
        "created": "2026-11-28T17:45:00+00:00",
        "source": "pipelines",
        "command": f'make compare METHODS="{" ".join(rows)}" SEEDS={seeds}',
        "verdict": "",
        "status": "complete",
        "failed": [],
        "dataset": {
            "name": "world",
            "md5": "0f3c9b5d7e2a4c6f8b1d3e5a7c9f0b2d",
            "questions": 1_000,
            "files": {"held_out": "5d41402abc4b2a76b9719d911017c592"},
            "is_simulated": True,
        },
        "machine": {
            **{"cpu": "EPYC 7763", "cores": 2, "memory_gb": 23.4, "platform": "Linux x86_64", "python": "3.12.11"},
            **{"torch": "2.13.0+cpu", "gpu": None, "workers": 2, "threads": 1},
        },
        "git_commit": "c15dd36e0c8a1b2d3e4f5a6b7c8d9e0f1a2b3c4d",
        "version": "0.1.0",
        "seconds": 2_532.6,
        "design": {
            "metric": "accuracy",
            "metric_title": "held-out questions answered right by greedy decoding",
            "unit": unit,
            "higher_is_better": True,
            "reference": "sft",
            "seeds": list(range(seeds)),
            "questions": 1_000,
            "samples": 8,
            "confidence": 0.95,
            "margin": 0.02,
            "correction": "holm",
            "budget": {"kind": "defaults", "amount": None},
            "tune": 0,
            "covers": "The intervals cover the choice of the held-out questions and the seeds of training and sampling.",
        },
        "methods": methods,
        "pairs": [],
        "groups": None,
        "levels": None,
        "answers": answers(rows),
        "notes": ["RLAIF's judge is the base model; it agreed with the right answers in 58.1 % of the pairs."],
        "warnings": ["RLAIF, seed 1: the KL divergence rose above its target for 40 updates."],
        "mlflow": {"experiment_id": "1", "run_id": "8c1f0e", "url": "http://127.0.0.1:5000/#/experiments/1"},
    }
    made["pairs"] = pairs(made, chance)
    made["groups"] = groups(made, chance)
    best = max(made["methods"], key=lambda one: one["mean"]["estimate"])
    gain = next(pair for pair in made["pairs"] if pair["a"] == best["name"] and pair["family"] == "reference")
    made["verdict"] = (
        f"{best['title']} is the best of {len(methods)} methods: {gain['estimate'] * 100:+.1f} points over SFT "
        f"[{gain['low'] * 100:.1f}, {gain['high'] * 100:.1f}], at least {gain['low_decides'] * 100:+.1f}; "
        "not told apart from RLHF (this design sees 4.1 points)."
    )
    return made


def method(name, row, seeds, chance):
    title, learns_from, level, simulated, labels, when = row
    levels = [min(max(level + chance.gauss(0, 0.012), 0.01), 0.99) for _ in seeds]
    scores = [{"seed": seed, **interval(value, 0.015)} for seed, value in zip(seeds, levels, strict=True)]
    trained = {"few_shot": 0.0, "sft": 1.1e5}.get(name, chance.uniform(2e5, 2.4e6))
    generated = trained * 1.7 if name in REWARDED else 0.0
    costs = {
        **{
            "train_seconds": 40 + trained / 9e3,
            "generated_tokens": generated,
            "trained_tokens": trained,
            "critic_tokens": generated,
        },
        **{"forward_tokens": 2 * generated, "flops": 6 * 3.7e5 * (trained + generated) or 1.2e9, "labels": labels},
        **{"peak_rss_mb": 812.0 + len(name), "evaluate_seconds": 21.4},
    }
    mean = sum(levels) / len(levels)
    return {
        **{"name": name, "title": title, "learns_from": learns_from, "is_reference": name == "sft", "simulated": simulated},
        **{"when_to_use": when, "seeds": seeds, "scores": scores, "accuracy": scores, "mean": interval(mean, 0.021)},
        "sampled": [{"seed": seed, **interval(value - 0.03, 0.012)} for seed, value in zip(seeds, levels, strict=True)],
        "mean_sampled": interval(mean - 0.03, 0.018),
        "costs": costs,
        "costs_per_seed": [{"seed": seed, **costs} for seed in seeds],
        "saw": {
            **{"demonstrations": 64, "questions": 2_000 if name != "sft" else 0, "gold_answers": 1_000 if name == "reft" else 0},
            **{"labels": labels, "labels_by": f"simulated {simulated[0]}" if simulated else None},
            "judge": "the base model" if "judge" in simulated else None,
        },
        **{"response_tokens": 41.3, "finished": 0.991, "kl": None if name == "sft" else 0.31 + level / 10, "win_rate": None},
        "yardsticks": yardsticks(name, mean),
        "learning": []
        if name == "few_shot"
        else [curve(seed, value, costs, chance) for seed, value in zip(seeds, levels, strict=True)],
        "proxy": [audit(seed, value, chance) for seed, value in zip(seeds, levels, strict=True)] if name in REWARDED else None,
        **{"tuned": None, "budget_used": None},
        "runs": [
            {
                **{"seed": seed, "pipeline_id": f"p-{name}-{seed}", "run_id": f"{seed}{name}"[:8].ljust(8, "0")},
                **{"command": f"make pipeline METHOD={name} SET='split.seed={seed}'", "report": f"reports/p-{name}-{seed}.md"},
                **{
                    "git_commit": "c15dd36",
                    "data_md5": "0f3c9b5d7e2a",
                    "model_uri": f"models:/{name}/{seed}",
                    "stages": {"sft": "ab12"},
                },
            }
            for seed in seeds
        ],
    }


def yardsticks(name, mean):
    held = {
        "pass": {str(k): interval(1 - (1 - mean) ** (1 + math.log2(k) / 3), 0.018) for k in (1, 2, 4, 8)},
        "majority": {str(k): interval(mean + 0.01 * math.log2(k) * (1 - mean), 0.02) for k in (2, 4, 8)},
        **{"best_of": None, "best_of_by": None},
    }
    if name in ("rlhf", "rlaif"):
        held |= {"best_of": {"4": interval(mean + 0.01, 0.02)}, "best_of_by": f"reward model of {name}"}
    return held


def curve(seed, level, costs, chance, *, steps=40):
    points = []
    for step in range(0, steps + 1):
        part = step / steps
        value = 0.55 + (level - 0.55) * (1 - math.exp(-4 * part)) + chance.gauss(0, 0.012)
        points.append(
            {
                **{"step": step * 5, "trained_tokens": costs["trained_tokens"] * part, "seconds": costs["train_seconds"] * part},
                **{"generated_tokens": costs["generated_tokens"] * part, "labels": costs["labels"]},
                **{"value": value, "what": "training questions, gold"},
            }
        )
    return {"seed": seed, "points": points}


def audit(seed, level, chance):
    points = [
        {
            "sqrt_kl": 0.08 * step,
            "proxy": -0.2 + 0.11 * step,
            "gold": 0.6 + (level - 0.6) * math.sin(step / 8) + chance.gauss(0, 0.005),
        }
        for step in range(13)
    ]
    return {
        "seed": seed,
        "points": points,
        "best_of_n": [
            {
                "n": n,
                "sqrt_kl": math.sqrt(math.log(n) - (n - 1) / n),
                "proxy": 0.2 * math.log(n),
                "gold": 0.62 + 0.03 * math.log(n),
            }
            for n in (1, 2, 4, 8)
        ],
    }


def pair(a, b, family, chance):
    estimate = a["mean"]["estimate"] - b["mean"]["estimate"]
    drawn, deciding = 0.024, 0.034 if a["name"] != "rlaif" else 0.09
    verdict = "undecided"
    if abs(estimate) > deciding:
        verdict = "better" if estimate > 0 else "worse"
    elif abs(estimate) + deciding < 0.04:
        verdict = "equal"
    words = {
        "better": f"better by at least {100 * (estimate - deciding):.1f} points",
        "worse": f"worse by at least {100 * (-estimate - deciding):.1f} points",
        "equal": "equal within ±2.0 points",
        "undecided": f"not told apart; this design sees {100 * deciding * 1.4:.1f} points",
    }[verdict]
    both = sorted({one["seed"] for one in a["scores"]} & {one["seed"] for one in b["scores"]})
    p = math.exp(-abs(estimate) / deciding * 3)
    level = {side["name"]: {one["seed"]: one["estimate"] for one in side["scores"]} for side in (a, b)}
    return {
        **{"a": a["name"], "b": b["name"], "family": family, **interval(estimate, drawn)},
        **{"low_decides": estimate - deciding, "high_decides": estimate + deciding, "p": p, "p_holm": min(1.0, 4 * p)},
        **{"smallest_effect": deciding * 1.4, "degrees": 11.3, "verdict": verdict, "words": words},
        "per_seed": [{"seed": seed, **interval(level[a["name"]][seed] - level[b["name"]][seed], 0.02)} for seed in both],
        "needs": [{"effect": 0.02, "seeds": 5, "questions": 2_000}],
    }


def pairs(made, chance):
    methods = made["methods"]
    reference = next(one for one in methods if one["is_reference"])
    best = max(methods, key=lambda one: one["mean"]["estimate"])
    found = [pair(one, reference, "reference", chance) for one in methods if one is not reference]
    found += [pair(best, one, "best", chance) for one in methods if one is not best]
    return found + [pair(a, b, "all", chance) for place, a in enumerate(methods) for b in methods[place + 1 :]]


def groups(made, chance):
    by_name = {entry["a"]: entry for entry in made["pairs"] if entry["family"] == "reference"}
    return {
        **{"by": "numbers", "title": "how many numbers the question holds"},
        "groups": [
            {
                **{"name": name, "questions": questions},
                "methods": {
                    key: {
                        **interval(entry["estimate"] * factor + chance.gauss(0, 0.01), 0.05),
                        **{
                            "p": entry["p"],
                            "p_holm": entry["p_holm"],
                            "verdict": entry["verdict"] if factor > 0.5 else "undecided",
                        },
                    }
                    for key, entry in by_name.items()
                },
            }
            for name, questions, factor in (("2 numbers", 412, 0.4), ("3 numbers", 371, 1.1), ("4 numbers", 217, 1.5))
        ],
    }


def answers(rows):
    return [
        {
            **{
                "id": f"q{place}",
                "prompt": f"Ann has {place + 2} apples and buys {place}. How many has she now?",
                "answers": [str(2 * place + 2)],
            },
            "by": {
                name: {
                    "seed": 0,
                    "text": f"Ann had {place + 2}, then {place} more: {2 * place + 2 + (name in wrong)}",
                    "is_right": name not in wrong,
                }
                for wrong in [("sft", "ppo", "rlaif")]
                for name in rows
            },
        }
        for place in range(8)
    ]


def one_seed():
    made = comparison(seeds=1)
    made["verdict"] = "ReFT is the best of 6 models; with one seed this speaks of these models, not of methods."
    return made


def partial():
    """RLAIF's last seed failed, and PPO has no seed at all."""
    made = comparison({name: row for name, row in SIX.items() if name != "ppo"})
    made["status"] = "partial"
    for one in made["methods"]:
        if one["name"] == "rlaif":
            one["seeds"] = [0, 1]
            for key in ("scores", "accuracy", "sampled", "costs_per_seed", "learning", "proxy", "runs"):
                one[key] = one[key][:2]
    made["pairs"] = pairs(made, random.Random(1))
    made["failed"] = [
        {
            **{"method": "rlaif", "seed": 2, "error": "the judge's server did not answer within 60 s", "run_id": "9d0c"},
            "command": "make pipeline METHOD=rlaif SET='split.seed=2'",
        },
        {"method": "ppo", "seed": 0, "error": "the disk is full", "command": "make pipeline METHOD=ppo", "run_id": None},
    ]
    return made


def logs():
    """Two systems of another tool on one seed: levels and answers, and nothing of how they were made."""
    made = comparison(
        {"sft": ("llama-3-8b", "", 0.512, [], 0, ""), "dpo": ("llama-3-8b-instruct", "", 0.687, [], 0, "")}, seeds=1
    )
    nothing = ("costs", "costs_per_seed", "saw", "response_tokens", "finished", "kl", "win_rate", "yardsticks", "proxy", "tuned")
    for one in made["methods"]:
        one |= dict.fromkeys(nothing) | {"learning": [], "runs": [], "sampled": None, "mean_sampled": None, "budget_used": None}
    made |= {
        **{"source": "logs", "command": 'make compare LOGS="a.jsonl b.jsonl"', "dataset": None, "machine": None, "groups": None}
    }
    made |= {"mlflow": None, "warnings": [], "notes": [], "verdict": "llama-3-8b-instruct is better by at least 14.1 points."}
    made["design"] |= {
        "samples": None,
        "budget": None,
        "tune": 0,
        "metric": "exact_match",
        "metric_title": "exact match of lm-evaluation-harness",
    }
    return made


def loss():
    """Levels in nats, lower is better: gains are falls."""
    made = comparison()
    made["design"] |= {"unit": "nats", "higher_is_better": False, "metric": "held_out_loss", "margin": 0.01}
    made["design"]["metric_title"] = "negative log-likelihood of held-out demonstrations, nats a token"
    for one in made["methods"]:
        for entry in (one["mean"], *one["scores"]):
            entry |= interval(2.5 - entry["estimate"], 0.02)
        one |= {"yardsticks": None, "accuracy": None, "sampled": None}
    made["verdict"] = "ReFT is the best of 6 methods: its held-out loss is 0.321 nats below SFT's."
    return made


HOSTILE = (
    "<script>alert('x')</script><img src=x onerror=alert(1)>\u202egnirts desrever\u202c "
    "`|` **bold** [link](javascript:alert(1)) {{ 7*7 }}"
)
"""Text that would run, reorder or mark up a page that does not escape it."""
ARABIC = "عدد التفاح الذي لدى آن الآن هو خمسة"
CODE = 'def solution():\n    apples = 2 + 3\n    return f"{apples}" if apples < 10 else "</pre>"\n'


def hostile():
    """Every text that comes from outside is an attack, very long, right-to-left or code."""
    made = comparison(
        {
            "sft": (f"SFT {HOSTILE}", HOSTILE, 0.62, [], 0, HOSTILE),
            "a/b~c": ("An extraordinarily long name of a method " * 4, "x" * 400, 0.7, [HOSTILE], 5, "w" * 300),
            "dpo": ("DPO", HOSTILE, 0.8, ["annotators"], 3, ""),
        }
    )
    made["verdict"] = f"DPO is best. {HOSTILE}"
    made["notes"] = [HOSTILE, "\x1b[31mred\x00"]
    made["groups"]["groups"][0]["name"] = HOSTILE
    made["failed"] = [{"method": HOSTILE, "seed": 1, "error": HOSTILE, "command": HOSTILE, "run_id": None}]
    for text in (HOSTILE, ARABIC, CODE, "word " * 20_000, "l" * 50_000, "", "\ud800 half a character"):
        entry = copy.deepcopy(made["answers"][0])
        entry |= {"id": "h", "prompt": text or "?", "answers": [text[:200]]}
        for given in entry["by"].values():
            given["text"] = text
        made["answers"].append(entry)
    return made


def crowd():
    """Twelve methods on five seeds."""
    return comparison(TWELVE, seeds=5)


def tuned():
    """An equal budget of tokens, and twenty trials for each method."""
    made = comparison()
    made["design"] |= {"tune": 20, "budget": {"kind": "tokens", "amount": 1_000_000}}
    for one in made["methods"]:
        one["tuned"] = {"trials": 20, "chosen": {"dpo.beta": 0.2, "optimizer.learning_rate": 3e-4}, "development": 0.81}
        one["budget_used"] = {"amount": 987_654.0, "share": 0.988}
        one["win_rate"] = interval(0.71, 0.03)
    return made


def budgets():
    """Return a comparison at three amounts of labels; SFT, which needs none, stands at 0 with each of them."""
    made = comparison()
    made["design"]["budget"] = {"kind": "labels", "amount": 4_000}
    made["levels"] = [
        {
            **{"amount": amount, "method": one["name"], "seed": score["seed"], "used": amount * bool(one["saw"]["labels"])},
            "value": score["estimate"] - 0.05 * place * bool(one["saw"]["labels"]),
        }
        for place, amount in ((2, 500), (1, 1_000), (0, 4_000))
        for one in made["methods"]
        for score in one["scores"]
    ]
    return made


VARIANTS = {
    **{"full": comparison, "one_seed": one_seed, "partial": partial, "logs": logs, "loss": loss, "hostile": hostile},
    **{"crowd": crowd, "tuned": tuned, "budgets": budgets},
}
"""By name, makers of each kind of comparison that a page must show."""
