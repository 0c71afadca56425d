"""What `make compare` may be asked for."""

import pytest

from flows.compare import METRICS, _check
from flows.compare_request import Request, read_request
from flows.jobs import UNREGISTERED, Finished, Job
from flows.verbs import words_of
from posttrain.errors import RequestError
from posttrain.methods import METHODS
from posttrain.settings.config import merge
from tasks.comparison import gather

ALL = ", ".join(METHODS)


def read(*words):
    return read_request(words_of("compare", words))


def test_without_words_it_is_the_six_methods_on_three_seeds():
    request = read()
    assert request == Request(methods=("sft", "dpo", "reft", "rlhf", "rlaif", "ppo"), seeds=(0, 1, 2))
    assert request.command == 'make compare METHODS="sft dpo reft rlhf rlaif ppo" SEEDS=3'


@pytest.mark.parametrize(
    ("given", "seeds", "shown"),
    [("3", (0, 1, 2), "3"), ("1", (0,), "1"), ("10,11,12", (10, 11, 12), "10,11,12"), ("4 2", (4, 2), "4,2"), ("7,", (7,), "7,")],
)
def test_seeds(given, seeds, shown):
    request = read(f"SEEDS={given}")
    assert request.seeds == seeds and f" SEEDS={shown}" in request.command
    assert read(f"SEEDS={shown}").seeds == seeds, "the command that is shown compares the same"


def test_words_of_every_kind():
    request = read(
        "METHODS=DPO, reft", "SEEDS=2", "DATA=mine", "SET=dpo.beta=0.2 compare.margin=0.03", "WORKERS=4", "RUNNER=Dask", "TUNE=5",
        "BUDGET=labels:100", "DRY_RUN=1",
    )  # fmt: skip
    assert request.methods == ("dpo", "reft") and request.is_dry and request.tune == 5 and request.budget == "labels:100"
    assert request.of_pipelines == ("data.name=mine", "dpo.beta=0.2")
    compare = merge({}, request.settings).compare
    assert (compare.margin, compare.workers, compare.runner) == (0.03, 4, "dask")
    assert request.command == (
        'make compare METHODS="dpo reft" SEEDS=2 DATA=mine BUDGET=labels:100 TUNE=5 '
        'SET="dpo.beta=0.2 compare.margin=0.03 compare.workers=4 compare.runner=dask"'
    )


def test_the_reference_is_run_first_and_once():
    jobs = read("METHODS=dpo", "SEEDS=2").jobs(reference="sft")
    assert [(job.method, job.seed) for job in jobs] == [("sft", 0), ("dpo", 0), ("sft", 1), ("dpo", 1)]
    jobs = read("METHODS=dpo sft", "SEEDS=1").jobs(reference="sft")
    assert [job.method for job in jobs] == ["sft", "dpo"]


def test_logs():
    request = read("LOGS=a.jsonl 'b c.jsonl'")
    assert request.logs == ("a.jsonl", "b c.jsonl")
    assert request.command == "make compare LOGS=\"a.jsonl 'b c.jsonl'\""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["METHODS=dpoo"], f"METHODS: there is no method dpoo; did you mean dpo?; methods are {ALL}"),
        (["METHODS="], f'METHODS must name a method at least: METHODS="sft dpo reft rlhf rlaif ppo"; methods are {ALL}'),
        (["METHODS=dpo dpo"], "METHODS names dpo 2 times: name each method once"),
        (["SEEDS=0"], 'SEEDS must be between 1 and 1,000 seeds, got 0; one seed of that name is SEEDS="0,"'),
        (["SEEDS=1001"], 'SEEDS must be between 1 and 1,000 seeds, got 1001; one seed of that name is SEEDS="1001,"'),
        (["SEEDS=two"], 'SEEDS must be how many seeds (SEEDS=3: 0, 1 and 2) or which (SEEDS="10,11,12"), got two'),
        (["SEEDS="], 'SEEDS must be how many seeds (SEEDS=3: 0, 1 and 2) or which (SEEDS="10,11,12"), got nothing'),
        (["SEEDS=1,2,1"], "SEEDS names 1 2 times; the same seed gives the same result"),
        (["SEEDS=4294967296,"], "SEEDS: a seed must be at most 4294967295, got 4294967296"),
        (["SET=seed=1"], "seed=1: SEEDS decides that of a comparison; take it out of the settings"),
        (["method=dpo"], "method=dpo: METHODS decides that of a comparison; take it out of the settings"),
        (["BUDGET=labels:10,10"], "BUDGET=labels:10,10: the amount 10 stands there twice"),
        (["DRY_RUN=yes"], "DRY_RUN must be 1 (print what would be run) or 0, got yes"),
        (["LOGS=a", "METHODS=dpo"], "LOGS compares results that are there, so METHODS has no meaning beside it: leave it out"),
        (["LOGS=a", "DATA=mine"], "LOGS compares results that are there, so DATA has no meaning beside it: leave it out"),
        (["LOGS=a", "DRY_RUN=1"], "LOGS compares results that are there, so DRY_RUN has no meaning beside it: leave it out"),
        (
            ["LOGS=a", "sft.epochs=1"],
            "LOGS compares results that are there, so sft.epochs has no meaning beside it: leave it out",
        ),
        (["LOGS='a"], "LOGS must close the quotation marks that it opens, got 'a"),
        (["METHOD=dpo"], "METHOD=dpo: METHODS decides that of a comparison; take it out of the settings"),
    ],
)
def test_what_is_refused(words, sentence):
    with pytest.raises(RequestError) as told:
        read(*words)
    assert str(told.value) == sentence


def test_a_setting_that_is_none_is_refused_as_everywhere():
    with pytest.raises(RequestError, match=r"there is no setting compare\.margn; did you mean compare\.margin"):
        merge({}, read("SET=compare.margn=1").settings)
    with pytest.raises(RequestError, match=r"compare\.runner must be one of"):
        merge({}, read("RUNNER=spark").settings)
    with pytest.raises(RequestError, match=r"compare\.reference must be one of sft, .*, got sftt; did you mean sft\?"):
        _check(merge({}, ["compare.reference=sftt"]))
    with pytest.raises(RequestError, match=r"compare\.metric must be one of auto, accuracy, .*, got bleu"):
        _check(merge({}, ["compare.metric=bleu"]))
    assert ("auto", *METRICS) == ("auto", *gather.METRICS)


def test_no_setting_of_a_comparison_is_in_a_pipelines_words():
    job = read("METHODS=dpo", "SET=compare.margin=0.5 dpo.beta=0.2").jobs(reference="sft")[1]
    assert job.words == ("method=dpo", "dpo.beta=0.2", "seed=0")
    trial = Job("dpo", 3, ("dpo.beta=0.2",), purpose="trial")
    assert trial.words == ("method=dpo", "dpo.beta=0.2", UNREGISTERED, "seed=3")
    assert not merge({}, trial.words).tracking.register_model and merge({}, job.words).tracking.register_model
    assert (job.title, trial.title) == ("dpo seed 0", "dpo seed 3, trial")
    assert Finished(job, None).code == 0
