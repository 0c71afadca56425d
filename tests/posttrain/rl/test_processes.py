"""Two processes of one run compute what one process computes with the joint batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from posttrain.rl.processes import shared
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Sampled, joined
from tests.tiny_ppo import figures, run

ROOT = Path(__file__).resolve().parents[3]


def test_pieces_are_padded_to_one_width_and_keep_their_order(monkeypatch):
    cpu = torch.device("cpu")
    one = joined([[5, 6, 7]], Sampled([[2, 1]], [torch.tensor([-0.5, -1.0])], [True]), pad_id=9, device=cpu)
    other = joined([[8]], Sampled([[3]], [torch.tensor([-2.0])], [False]), pad_id=9, device=cpu)
    first, second = Rewards([1.0], {"format": [0.5]}, ["right"]), Rewards([0.0], {"format": [0.25]}, ["wrong"])

    def gathered(mine):
        ((figures, rewards),) = mine
        assert rewards is first and figures["ids"].tolist() == [[5, 6, 7, 2, 1]]
        return [*mine, ({name: getattr(other, name) for name in figures}, second)]

    monkeypatch.setattr("posttrain.rl.processes.gather_object", gathered)
    episodes, rewards = shared(one, first, pad_id=9)
    assert episodes.ids.tolist() == [[5, 6, 7, 2, 1], [8, 3, 9, 9, 9]]
    assert episodes.logprob.tolist() == [[-0.5, -1.0], [-2.0, 0.0]]
    assert episodes.prompt_length.tolist() == [3, 1] and episodes.is_finished.tolist() == [True, False]
    assert rewards == Rewards([1.0, 0.0], {"format": [0.5, 0.25]}, ["right", "wrong"])


def processes(out, *words, count=2):
    """Run `tests.tiny_ppo` as the processes of one run, and return what the first one wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, "-m", "tests.tiny_ppo", str(out), *words]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        said = [process.communicate(timeout=150)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * count, "\n".join(said)
    return torch.load(out, weights_only=False)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, one_thread):
    """With mini-batches that are accumulated, responses that weigh alike, and a batch of unlike lengths."""
    settings = {"device_batch_size": 3, "mean_over": "responses", "critic": "shared", "reward_scale": "running", "patience": 2}
    two = processes(tmp_path / "two.pt", *(f"{name}={value}" for name, value in settings.items()))
    made = run(**settings)
    one = figures(made)
    assert two["asked"] == one["asked"]
    assert two["rewards"] == one["rewards"]
    for ids, others in zip(two["ids"], one["ids"], strict=True):
        assert torch.equal(ids, others)
    for mine, theirs in zip(one["metrics"], two["metrics"], strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert theirs[name] == pytest.approx(value, abs=1e-5), name
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, atol=1e-5, rtol=0)
    unmoved = run(**settings, updates=1)
    assert any((weight - unmoved.weights[name]).abs().max() > 1e-3 for name, weight in one["weights"].items()), "it can fail"
