"""What a dry run prints, on a store of fabricated stages."""

import json
import os

from flows.compare_plan import _in_order, _table, _totals
from flows.estimate import Earlier
from flows.jobs import Job
from flows.probe import ProbedStage
from tasks.workspace.paths import Paths


def stage(name, key, **settings):
    return ProbedStage(name, key, settings, None)


def made(paths, name, key, *, seconds, settings, age, **costs):
    folder = paths.stages / name / key
    folder.mkdir(parents=True)
    file = folder / "stage.json"
    file.write_text(json.dumps({"seconds": seconds, "settings": settings, "costs": costs}))
    os.utime(file, (1_000_000 - age, 1_000_000 - age))


def test_a_stage_takes_what_the_one_most_like_it_took_last(tmp_path):
    paths = Paths(tmp_path)
    made(paths, "dpo", "a", seconds=10.0, settings={"dpo.beta": 0.1, "seed": 0}, age=1, labels=5, trained_tokens=100)
    made(paths, "dpo", "b", seconds=20.0, settings={"dpo.beta": 0.2, "seed": 0}, age=9, labels=7, generated_tokens=40)
    made(paths, "dpo", "c", seconds=30.0, settings={"dpo.beta": 0.2, "seed": 0}, age=5, labels=9, trained_tokens=1)
    earlier = Earlier(paths)
    # b and c differ in the seed alone, a in both; c is the younger of the two
    found = earlier.estimate([stage("dpo", "k", **{"dpo.beta": 0.2, "seed": 3}), stage("sft", "new")])
    assert (found.seconds, found.costs["labels"], found.costs["trained_tokens"], found.unknown) == (30.0, 9, 1, ("sft",))
    assert earlier.seconds([stage("dpo", "k2", **{"dpo.beta": 0.1, "seed": 0}), stage("sft", "new")]) == {"k2": 10.0}


def test_a_stage_that_was_made_since_is_seen_after_another_look(tmp_path):
    paths = Paths(tmp_path)
    earlier = Earlier(paths)
    assert earlier.seconds([stage("sft", "k")]) == {}
    made(paths, "sft", "a", seconds=4.0, settings={}, age=0)
    assert earlier.seconds([stage("sft", "k")]) == {}
    earlier.refresh()
    assert earlier.seconds([stage("sft", "k")]) == {"k": 4.0}


def test_jobs_are_shown_in_the_order_of_their_start(tmp_path):
    base, sft, dpo = (stage(name, name) for name in ("base", "sft", "dpo"))
    missing = {Job("dpo", 0): {one.key: one for one in (base, sft, dpo)}, Job("sft", 0): {one.key: one for one in (base, sft)}}
    assert [job.method for job in _in_order(missing, Earlier(Paths(tmp_path)))] == ["sft", "dpo"]


def test_totals(tmp_path):
    paths = Paths(tmp_path)
    made(paths, "sft", "a", seconds=90.0, settings={}, age=0, labels=3, trained_tokens=1000, generated_tokens=20)
    earlier = Earlier(paths)
    assert _totals(earlier.estimate([]), 0, workers=2) == ["everything is there: no stage would run"]
    told = _totals(earlier.estimate([stage("sft", "k"), stage("sft", "l")]), 2, workers=2)
    assert told == [
        "2 stages would run, 2 pipelines at a time; one that several jobs share is counted once",
        "together they take about 3 min 0 s of computing, 90 s on 2 workers, 6 labels, 40 sampled and 2,000 trained tokens, as "
        "stages like them did before in this store",
    ]
    told = _totals(earlier.estimate([stage("base", "b")]), 1, workers=1)
    assert told[0] == "1 stage would run, 1 pipeline at a time; one that several jobs share is counted once"
    assert told[1:] == ["no estimate: this store has not made base yet, so nothing says how long that takes"]


def test_the_table_has_the_stages_last():
    assert _table(
        [("job", "stages", "cached", "to run", "about", "labels", "tokens"), ("sft", "6", "0", "a b", "2 s", "0", "1")]
    ) == [
        "job  stages  cached  about  labels  tokens  to run",
        "sft       6       0    2 s       0       1  a b",
    ]
