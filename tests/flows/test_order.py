"""Which job starts next: shared stages are made once, nothing waits for what another job makes, long jobs do not come last."""

from hypothesis import given
from hypothesis import strategies as st

from flows.jobs import Job
from flows.order import Order

SFT, DPO, REFT, PPO = (Job(method, 0) for method in ("sft", "dpo", "reft", "ppo"))
STAGES = {
    SFT: ("base", "sft", "evaluate-sft"),
    DPO: ("base", "sft", "label", "dpo", "evaluate-sft"),
    REFT: ("base", "sft", "reft", "evaluate-sft"),
    PPO: ("base", "ppo"),
}
SECONDS = {"base": 5.0, "sft": 2.0, "evaluate-sft": 1.0, "label": 1.0, "dpo": 10.0, "reft": 40.0, "ppo": 30.0}


def order_of(*jobs):
    order = Order()
    for job in jobs:
        order.add(job, STAGES[job])
    return order


def test_the_job_that_makes_what_all_share_comes_first_and_alone():
    # all of sft's stages are shared, so its own work is 0; dpo's is 11, reft's 40, ppo's 30
    order = order_of(DPO, REFT, PPO, SFT)
    assert order.next(seconds=SECONDS) is SFT
    order.start(SFT)
    assert order.next(seconds=SECONDS) is None, "all others would wait at the lock of base"


def test_a_job_starts_as_soon_as_what_it_shares_is_made():
    order = order_of(DPO, REFT, PPO, SFT)
    order.start(SFT)
    order.progress(SFT, ["base"])
    assert order.next(seconds=SECONDS) is PPO, "it needs base alone"
    order.start(PPO)
    assert order.next(seconds=SECONDS) is None
    order.end(SFT, is_whole=True)
    assert order.next(seconds=SECONDS) is REFT, "nothing is shared any more: the longest first"
    order.start(REFT)
    assert order.next(seconds=SECONDS) is DPO


def test_a_job_that_failed_has_not_made_what_it_missed():
    order = order_of(SFT, DPO)
    order.start(SFT)
    order.progress(SFT, ["base"])
    order.end(SFT, is_whole=False)
    assert order.made == {"base"}
    assert order.next(seconds=SECONDS) is DPO
    order.start(DPO)
    assert order.running[DPO] == ("sft", "label", "dpo", "evaluate-sft")


def test_seeds_run_side_by_side():
    order = Order()
    for seed in (0, 1):
        for method in ("sft", "dpo"):
            order.add(Job(method, seed), [f"{stage}/{seed}" for stage in ("base", "sft", *(["dpo"] if method == "dpo" else []))])
    first = order.next(seconds={})
    order.start(first)
    second = order.next(seconds={})
    assert (first, second) == (Job("sft", 0), Job("sft", 1))


def test_a_job_without_missing_stages_may_start_at_any_time():
    order = order_of(SFT)
    order.start(SFT)
    order.add(DPO, ())
    assert order.next(seconds=SECONDS) is DPO


def test_of_equals_the_one_that_was_asked_for_first():
    order = Order()
    for seed in (3, 1, 2):
        order.add(Job("ppo", seed), [f"ppo/{seed}"])
    assert order.next(seconds={}) == Job("ppo", 3)


@given(st.lists(st.sets(st.sampled_from("abcdef")), min_size=1, max_size=7), st.integers(1, 3), st.randoms(use_true_random=False))
def test_every_job_runs_and_no_stage_is_made_twice_or_by_two(jobs, workers, chance):
    order = Order()
    for number, stages in enumerate(jobs):
        order.add(Job("sft", number), sorted(stages))
    made, ran = [], []
    while order.waiting or order.running:
        while len(order.running) < workers and (job := order.next(seconds={})) is not None:
            order.start(job)
            ran.append(job)
        claimed = [key for keys in order.running.values() for key in keys]
        assert len(claimed) == len(set(claimed)), "two jobs want to make one stage"
        job = chance.choice(list(order.running))
        made += order.running[job]
        order.end(job, is_whole=True)
    assert len(ran) == len(jobs) and sorted(made) == sorted(set().union(*jobs))
