"""The judge as a reward: a response is worth its expected score."""

import pytest
import torch

from models.load import load_model, load_tokenizer
from posttrain.errors import ContractError, RequestError
from posttrain.settings.model import ModelSettings
from tasks.rewards.sources.judge import JudgeReward, judge_reward
from tests.tasks.judge_servers import completion, faulty
from tests.tasks.judge_sources import judge_of


def reward_of(tmp_path, tiny_world, **settings):
    return judge_reward(judge_of(tiny_world, tmp_path / "cache", **settings))


def test_a_response_is_worth_its_expected_score(tmp_path, tiny_world, world_records):
    """right is worth 10 and wrong 1: E = 1 + 9 P(right), so the reward is 2 P(right) - 1."""
    questions = world_records["questions"][:3]
    responses = ["1 + 2 = 3. Answer: 3", "1 + 2 = 3. So 3", "2 + 2 = 4. Answer: 4"]
    prompts = [f"{question.prompt}\n" for question in questions]
    records = [question.model_dump(mode="json") for question in questions]
    rewards = reward_of(tmp_path, tiny_world)(prompts, responses, records)
    model, tokenizer = (
        load_model(tiny_world.base / "model", ModelSettings(), on=torch.device("cpu")),
        load_tokenizer(tiny_world.tokenizer),
    )
    words = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" right", " wrong")]
    for prompt, response, value, score in zip(prompts, responses, rewards.values, rewards.parts["judge_score"], strict=True):
        ids = tokenizer(f"{prompt}{response}\nVerdict:", return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            right = model(input_ids=ids).logits[0, -1, words].softmax(-1)[0].item()
        assert value == pytest.approx(2 * right - 1, abs=1e-5) and score == pytest.approx(1 + 9 * right, abs=1e-5)
    assert rewards.parts["judge_unreadable"] == [0.0] * 3 and rewards.reasons[0].endswith(" of 10")


def test_a_rollout_that_was_judged_is_not_judged_again(tmp_path, tiny_world):
    with faulty(lambda *_: (200, completion(" right", logprobs={" right": -0.01}))) as server:
        reward = reward_of(tmp_path, tiny_world, backend="openai", model="m", base_url=server.url, mode="pairwise")
        for _ in range(2):
            assert reward(["q\n"], ["r"], [{"prompt": "q"}]).values == [1.0]
        assert len(server.requests) == 1 and server.requests[0]["messages"][0]["content"] == "q\nr\nVerdict:"


def test_a_conversation_is_judged_as_a_transcript(tmp_path, tiny_world):
    with faulty(lambda *_: (200, completion(" right", logprobs={" right": -0.01}))) as server:
        reward = reward_of(tmp_path, tiny_world, backend="openai", model="m", base_url=server.url)
        reward(["<s>Hi</s>"], ["Yes"], [{"prompt": [{"role": "user", "content": "Hi"}]}])
        assert server.requests[0]["messages"][0]["content"] == "Human: Hi\nYes\nVerdict:"


def test_an_unreadable_reply_neither_pushes_nor_pulls(tmp_path, tiny_world):
    def behave(body, number):
        asked = body["messages"][0]["content"]
        word = "Hm" if "r0" in asked else " wrong" if "r1" in asked else " right"
        return 200, completion(word, logprobs={word: -0.01})

    with faulty(behave) as server:
        reward = reward_of(tmp_path, tiny_world, backend="openai", model="m", base_url=server.url, max_unreadable=0.4)
        rewards = reward(["q"] * 3, ["r0", "r1", "r2"], [{"prompt": "q"}] * 3)
        assert rewards.values == [0.0, -1.0, 1.0] and rewards.parts["judge_unreadable"] == [1.0, 0.0, 0.0]
        assert rewards.reasons == [
            "the judge's reply could not be read",
            "the judge gives 1.00 of 10",
            "the judge gives 10.00 of 10",
        ]
        with pytest.raises(ContractError, match=r"^the judge m: 1 of 1 replies are none of the options, allowed are 40\.0%"):
            reward(["q"], ["r0"], [{"prompt": "q"}])


def test_a_reward_stops_where_the_budget_ends(tmp_path, tiny_world):
    reward = reward_of(tmp_path, tiny_world, budget=1)
    assert len(reward(["q"], ["2 + 2 = 4"], [{"prompt": "q"}]).values) == 1
    with pytest.raises(
        RequestError, match=r"^judge\.budget=1 is spent, and PPO asks the judge about each response: raise it, or"
    ):
        reward(["q"], ["2 + 2 = 5"], [{"prompt": "q"}])


def test_what_it_is_called_and_that_it_may_take_its_time(tmp_path, tiny_world):
    source = JudgeReward.of(judge_of(tiny_world, tmp_path / "cache", mode="pairwise"))
    assert (source.name, source.who) == ("the judge base", "the AI judge (base)")
    assert source.has_own_limits and not source.is_reward_model and not source.is_checkable_by_program
    assert source.judge.mode == "pointwise", "single responses are scored, whatever judge.mode says"
    assert len(source.load()([""], ["Answer: 7"], [{"prompt": "q"}]).values) == 1
