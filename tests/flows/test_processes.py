"""Several processes are refused before anything runs where they cannot share the work."""

import pytest
import torch

from flows.processes import check_processes
from posttrain.errors import RequestError
from posttrain.settings.config import merge


def config(*words):
    return merge({}, [*words])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["method=sft", "sft.batch_size=6"], r"^sft\.batch_size must be a multiple of model\.processes \(4\), .* got 6$"),
        (["method=dpo", "dpo.batch_size=6"], r"^dpo\.batch_size must be a multiple"),
        (["method=reft", "ppo.mini_batch_size=6", "ppo.episodes=12"], r"^ppo\.mini_batch_size must be a multiple"),
        (["method=grpo", "ppo.mini_batch_size=6", "ppo.episodes=24"], r"^ppo\.mini_batch_size must be a multiple"),
        (["method=dpo", "sft.batch_size=6"], r"^sft\.batch_size must be a multiple"),
    ],
)
def test_batches_must_be_shared_evenly(words, says):
    with pytest.raises(RequestError, match=says):
        check_processes(config("model.processes=4", *words))
    check_processes(config(*words))


def test_what_the_method_does_not_read_is_not_looked_at():
    check_processes(config("model.processes=4", "method=few_shot", "sft.batch_size=6"))
    check_processes(config("model.processes=4", "method=ppo", "sft.batch_size=6"))


def test_a_gpu_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(config("model.processes=2", "method=sft"))
    with pytest.raises(RequestError, match=r"^model\.processes=4 needs as many GPUs, one a process, and there are 2$"):
        check_processes(config("model.processes=4", "method=sft"))
