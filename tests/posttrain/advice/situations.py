"""Situations that tests of advice share: each is one that docs/advise.md or the practitioners' guide speaks of."""

from dataclasses import replace

from posttrain.advice.situation import Asked, Base, Machine, Situation
from posttrain.methods import METHODS

REAL = Base(name="./smol", is_tiny=False, weights=135_000_000, adapter_width=500_000, layers=30, width=576, vocabulary=49_152)


def labelled_by(source):
    """Who labels for each method where `labels.source` comes to `source`: a judge's methods ask their judge all the same."""
    return {name: row.learns_from.labels_by or source for name, row in METHODS.items() if row.is_labelled}


WORLD = Situation(
    dataset="world",
    demonstrations=64,
    questions=2_000,
    answered=2_000,
    kinds={"number": 2_000},
    held_out=1_000,
    held_out_answered=1_000,
    prompt_tokens=40,
    response_tokens=20.0,
    long_response_tokens=30,
    shortest_shot=30,
    longest_question=50,
    labels_from=labelled_by("simulated"),
    asked=Asked(is_practised=True),
)
MATHS = replace(WORLD, dataset="maths", base=REAL, asked=Asked(), demonstrations=500, long_response_tokens=200)
QUESTIONS_ONLY = replace(MATHS, dataset="questions", demonstrations=0, response_tokens=0.0, long_response_tokens=0)
CHAT = Situation(
    dataset="chat",
    demonstrations=5_000,
    questions=5_000,
    held_out=500,
    prompt_tokens=80,
    response_tokens=120.0,
    long_response_tokens=300,
    shortest_shot=30,
    longest_question=90,
    labels_from=labelled_by("simulated"),
    asked=Asked(max_new_tokens=320),
    base=REAL,
)
EXTRACTION = replace(CHAT, dataset="extraction", long_response_tokens=12, response_tokens=6.0)
FEW_CHAT = replace(CHAT, dataset="few chat", demonstrations=30)
PREFERENCES = replace(
    CHAT,
    dataset="hh",
    pairs=5_000,
    labels=5_000,
    annotators=4,
    shared_pairs=500,
    alpha=0.7,
    labels_from=labelled_by("dataset"),
)
FEW_PREFERENCES = replace(PREFERENCES, dataset="few pairs", pairs=300, labels=300, demonstrations=300, questions=300)
JUDGED = replace(FEW_CHAT, dataset="judged", demonstrations=200, asked=Asked(judge="large", max_new_tokens=320))
RATINGS = replace(PREFERENCES, dataset="ratings", pairs=0, ratings=900, labels=0, demonstrations=0)
RANKINGS = replace(PREFERENCES, dataset="rankings", pairs=0, rankings=800, labels=4_800)
NAMED_REWARD = replace(
    CHAT,
    dataset="rewarded",
    demonstrations=100,
    asked=Asked(reward="python:mine:score", is_graded=False, max_new_tokens=320),
    refused={"reft": "method reft takes its reward from a grader, and ppo.reward=python:mine:score is none"},
)
LARGE_ON_CPU = replace(MATHS, dataset="large", base=replace(REAL, weights=7_000_000_000))
EMPTY = Situation(dataset="empty", labels_from=labelled_by("simulated"), base=REAL)
GPU = Machine(has_gpu=True, memory=80 * 2**30, weight_bytes=2)
ROWS = {"ppo": 64, "grpo": 64, "rloo": 64}
ROOMY = replace(MATHS, asked=Asked(device_rows=ROWS), machine=GPU)
TIGHT = replace(ROOMY, machine=replace(GPU, memory=29 * 2**30))
"""A critic does not fit beside a device batch: tests/posttrain/advice/test_advise.py works it out."""
