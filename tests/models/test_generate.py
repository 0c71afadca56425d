"""Responses: in order, cut at EOS, within their limits, and from the model's own distribution."""

from collections import Counter
from math import log

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from models import sampler, tiny
from models.generate import Response, generate, uniforms
from models.load import load_model, load_tokenizer
from models.tokenizers import world_tokenizer
from posttrain.settings.model import ModelSettings, TinySettings

WORDS = ["one", " two", " three", " on", "\n"]


@pytest.fixture(scope="module")
def reader():
    tokenizer = world_tokenizer(["one two three on\n"])
    tokenizer.padding_side = "left"
    return tokenizer


class Scripted(LlamaForCausalLM):
    """A network whose logits depend on the last token alone, through the table `after`: (vocabulary, vocabulary)."""

    def forward(self, input_ids, attention_mask=None, past_key_values=None, **_):
        seen.append((tuple(input_ids.shape), attention_mask))
        return CausalLMOutputWithPast(logits=self.after[input_ids], past_key_values=past_key_values)


seen: list = []


@pytest.fixture
def script(reader, one_thread):
    """Build a Scripted network from what follows what: one word, or a logit for each of several."""

    def build(**follows):
        ids = {word.strip() or "line": reader.convert_tokens_to_ids(word) for word in WORDS}
        ids |= {"eos": reader.eos_token_id}
        after = torch.full((len(reader), len(reader)), -50.0)
        after[:, ids["on"]] = 0.0
        for word, what in follows.items():
            after[ids[word]] = -50.0
            for follower, logit in ({what: 0.0} if isinstance(what, str) else what).items():
                after[ids[word], ids[follower]] = logit
        settings = TinySettings(layers=1, width=8, heads=1)
        made = Scripted(tiny.network(settings, vocabulary=len(reader), context=64, pad=0, eos=1).config).eval()
        made.after = after
        seen.clear()
        return made

    return build


@pytest.fixture(scope="module")
def trained(tiny_world):
    tokenizer = load_tokenizer(tiny_world.tokenizer)
    model = load_model(tiny_world.base / "model", ModelSettings(), on=torch.device("cpu"))
    return model, tokenizer


@pytest.fixture(scope="module")
def prompts(world_records):
    return [record.prompt + "\n" for record in world_records["questions"]]


def respond(model, reader, prompts, **changes):
    how = {"samples": 1, "temperature": 0.0, "max_new_tokens": 8, "context": 64, "batch_size": 4, "seed": 0}
    return generate(model, reader, prompts, **{**how, **changes})


def test_by_hand(script, reader):
    # "one" → " two" → " three" → EOS: three tokens with EOS; "\n" → "\n" → … never ends
    model = script(one="two", two="three", three="eos", line="line")
    told = respond(model, reader, ["one", "\n", "one two"], max_new_tokens=5)
    assert told == [
        [Response(text=" two three", tokens=3, is_finished=True)],
        [Response(text="\n" * 5, tokens=5, is_finished=False)],
        [Response(text=" three", tokens=2, is_finished=True)],
    ]


def test_eos_as_the_very_last_token_allowed_is_an_end_and_one_short_of_it_is_not(script, reader):
    model = script(one="two", two="three", three="eos")
    assert respond(model, reader, ["one"], max_new_tokens=3) == [[Response(" two three", 3, True)]]
    assert respond(model, reader, ["one"], max_new_tokens=2) == [[Response(" two three", 2, False)]]


def test_eos_at_once_is_an_empty_finished_response(script, reader):
    assert respond(script(one="eos"), reader, ["one"]) == [[Response("", 1, True)]]


def test_what_follows_eos_is_no_part_of_a_response(script, reader):
    """The one finishes while the other goes on, so the first row is filled up behind its EOS."""
    model = script(one="eos", line="line")
    assert respond(model, reader, ["one", "\n"], max_new_tokens=6)[0] == [Response("", 1, True)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    batch_size=st.integers(1, 12),
    samples=st.integers(1, 3),
)
def test_order_count_and_batch_size_whatever_the_lengths(script, reader, lengths, batch_size, samples):
    """Each prompt ends in a word that names its response, so a response in the wrong place shows."""
    model = script(one="three", two="two", three="eos")
    prompts = ["one" + " two" * (length - 1) for length in lengths]
    told: list[int] = []
    responses = respond(
        model, reader, prompts, samples=samples, temperature=1.0, batch_size=batch_size, max_new_tokens=3, advance=told.append
    )
    for length, told_of in zip(lengths, responses, strict=True):
        assert told_of == [Response(" three", 2, True) if length == 1 else Response(" two" * 3, 3, False)] * samples
    assert sum(told) == len(prompts)
    assert max(told) <= max(1, batch_size // samples)
    assert max(shape[0] for shape, _ in seen) <= max(samples, batch_size)


def test_the_longest_prompts_come_first(script, reader):
    model = script(one="eos", two="eos")
    respond(model, reader, ["one", "one two two", "one two"], batch_size=1)
    assert [shape[1] for shape, _ in seen] == [3, 2, 1]


def test_no_prompts_are_no_responses(script, reader):
    assert respond(script(), reader, []) == []


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("context", "tokens"), [(10, 5), (7, 4), (4, 1), (3, 0), (2, 0)])
def test_prompt_and_response_fit_the_context(script, reader, context, tokens):
    model = script(two="two")
    told = respond(model, reader, ["one two two"], max_new_tokens=5, context=context)
    assert told == [[Response(" two" * tokens, tokens, False)]]


def test_a_long_prompt_does_not_shorten_the_response_to_a_short_one(script, reader):
    """Context 8: the prompt of 6 tokens leaves 2, that of 1 token leaves the 5 asked for, in one batch or two."""
    model = script(one="two", two="two")
    told = respond(model, reader, ["one", "one" + " two" * 5, "one" + " two" * 8], max_new_tokens=5, context=8)
    assert [[one.tokens for one in given] for given in told] == [[5], [2], [0]]


def test_a_prompt_that_fills_the_context_gets_empty_responses_and_is_counted(script, reader):
    told: list[int] = []
    responses = respond(script(), reader, ["one" + " two" * 8], samples=2, temperature=1.0, context=4, advance=told.append)
    assert responses == [[Response("", 0, False)] * 2] and told == [1]


# --- distribution -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 3 / 4), (0.5, 9 / 10), (2.0, 3**0.5 / (1 + 3**0.5))])
def test_samples_follow_the_softmax_at_their_temperature(script, reader, temperature, share):
    """Logits log 3 and 0 after "one". 4,000 draws: three standard errors of 3/4 are 2.1 points."""
    model = script(one={"two": log(3), "three": 0.0}, two="eos", three="eos")
    told = respond(model, reader, ["one"], samples=4_000, temperature=temperature, max_new_tokens=1)
    counts = Counter(one.text for one in told[0])
    assert set(counts) == {" two", " three"}
    assert counts[" two"] / 4_000 == pytest.approx(share, abs=0.022)


def test_no_word_is_left_out_however_many_there_are(one_thread):
    """200 words of equal chance: transformers' own top-k of 50 would leave 150 of them out."""
    names = [a + b for a in "abcdefghijklmnopqrst" for b in "abcdefghij"]
    tokenizer = world_tokenizer([" ".join(names)])
    settings = TinySettings(layers=1, width=8, heads=1)
    model = Scripted(tiny.network(settings, vocabulary=len(tokenizer), context=64, pad=0, eos=1).config).eval()
    model.after = torch.zeros(len(tokenizer), len(tokenizer))
    told = respond(model, tokenizer, ["aa"], samples=4_000, temperature=1.0, max_new_tokens=1)
    assert len({one.text for one in told[0]}) == len(tokenizer)


def test_the_models_own_generation_config_has_no_say_and_is_kept(script, reader):
    model = script(one={"two": log(3), "three": 0.0}, two="two", three="three")
    how = {"samples": 50, "temperature": 1.0, "max_new_tokens": 4}
    plain, greedy = respond(model, reader, ["one"], **how), respond(model, reader, ["one"])
    own = GenerationConfig(
        repetition_penalty=3.0, min_p=0.9, top_k=1, top_p=0.1, max_new_tokens=2, min_new_tokens=4, no_repeat_ngram_size=1
    )
    model.generation_config = own
    assert respond(model, reader, ["one"], **how) == plain
    assert respond(model, reader, ["one"]) == greedy
    assert model.generation_config is own


# --- seeds, and a trained network -------------------------------------------------------------------------------------


def test_greedy_responses_do_not_depend_on_the_seed(trained, prompts):
    assert respond(*trained, prompts[:6], context=128, seed=1) == respond(*trained, prompts[:6], context=128, seed=2)


def test_sampled_responses_depend_on_the_seed_and_on_nothing_before(trained, prompts):
    how = {"samples": 2, "temperature": 1.0, "context": 128, "max_new_tokens": 16}
    first = respond(*trained, prompts[:6], **how, seed=1)
    torch.rand(7)
    assert respond(*trained, prompts[:6], **how, seed=1) == first
    assert respond(*trained, prompts[:6], **how, seed=2) != first
    assert any(one != other for one, other in first), "two samples of one prompt are two draws"


def test_company_changes_nothing(trained, prompts):
    """A prompt alone, or padded on the left in a batch with longer ones, gets the same greedy response."""
    how = {"context": 128, "max_new_tokens": 16}
    together = respond(*trained, prompts[:8], **how, batch_size=8)
    alone = [respond(*trained, [prompt], **how)[0] for prompt in prompts[:8]]
    assert together == alone
    assert len({len(prompt.split()) for prompt in prompts[:8]}) > 1, "some of them were padded"


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_the_batch_size_decides_nothing_about_what_is_drawn(trained, prompts, batch_size):
    how = {"samples": 2, "temperature": 1.0, "context": 128, "max_new_tokens": 16}
    wanted = respond(*trained, prompts[:8], **how, batch_size=16)
    assert respond(*trained, prompts[:8], **how, batch_size=batch_size) == wanted
    assert len({one.text for given in wanted for one in given}) > 8, "they are far from all alike"


def test_order_and_company_decide_nothing_about_what_is_drawn(trained, prompts):
    how = {"samples": 2, "temperature": 1.0, "context": 128, "max_new_tokens": 16}
    together = respond(*trained, prompts[:8], **how)
    assert respond(*trained, prompts[7:2:-1], **how) == together[7:2:-1]


def test_fewer_samples_are_the_first_ones_and_shorter_ones_their_beginnings(trained, prompts):
    how = {"temperature": 1.0, "context": 128}
    many = respond(*trained, prompts[:4], **how, samples=3, max_new_tokens=16)
    few = respond(*trained, prompts[:4], **how, samples=2, max_new_tokens=5)
    assert [[one.ids[:5] for one in given[:2]] for given in many] == [[one.ids for one in given] for given in few]


def test_a_prompts_name_decides_its_draws(trained, prompts):
    """Twice one prompt: under one name the same response, under two names two."""
    how = {"samples": 1, "temperature": 1.0, "context": 128, "max_new_tokens": 16}
    alike, other = (respond(*trained, [prompts[0]] * 2, **how, names=names) for names in (["a", "a"], ["a", "b"]))
    assert alike[0] == alike[1] == other[0] != other[1]


def test_each_prompt_needs_a_name(trained, prompts):
    with pytest.raises(ValueError, match=r"each prompt needs a name, got 1 names for 2 prompts"):
        respond(*trained, prompts[:2], names=["a"])


def test_uniforms_are_even_and_no_two_rows_alike():
    told = uniforms(["a", "b", "c"], samples=4, longest=2_000, seed=0)
    assert told.shape == (12, 2_000) and told.min() >= 0 and told.max() < 1
    # the mean of 2,000 has a standard error of 0.0065; correlations of independent rows one of 0.022
    assert (told.mean(dim=1) - 0.5).abs().max() < 0.03
    assert (torch.corrcoef(told) - torch.eye(12)).abs().max() < 0.1
    assert not torch.equal(told, uniforms(["a", "b", "c"], samples=4, longest=2_000, seed=1))


def test_only_a_finished_response_is_shorter_than_allowed(trained, prompts):
    how = {"samples": 4, "temperature": 1.0, "context": 128, "max_new_tokens": 24, "batch_size": 32}
    told = [one for given in respond(*trained, prompts[:8], **how) for one in given]
    assert all(one.tokens <= 24 and (one.is_finished or one.tokens == 24) for one in told)
    assert any(one.is_finished for one in told) and not any("<eos>" in one.text for one in told)


def test_a_response_is_heard_as_it_grows(tiny_world):
    reader = load_tokenizer(tiny_world.tokenizer)
    network = load_model(tiny_world.base / "model", ModelSettings(), on=torch.device("cpu"))
    how = {"samples": 1, "max_new_tokens": 8, "context": 64, "batch_size": 1, "seed": 5}
    for temperature in (0.0, 1.0):
        heard = []
        ((told,),) = generate(network, reader, ["Tom has 3 apples.\n"], temperature=temperature, hear=heard.append, **how)
        ((quiet,),) = generate(network, reader, ["Tom has 3 apples.\n"], temperature=temperature, **how)
        assert told == quiet == heard[-1]
        assert [one.tokens for one in heard] == list(range(1, told.tokens + 1))
        assert all(told.text.startswith(one.text) for one in heard)


def test_a_response_of_a_network_without_a_cache_is_heard_too(trained, monkeypatch):
    heard = []
    monkeypatch.setattr(sampler, "has_key_value_cache", lambda network: False)
    ((told,),) = respond(*trained, ["Tom has 3 apples.\n"], temperature=1.0, hear=heard.append)
    assert heard[-1] == told and [one.tokens for one in heard] == list(range(1, told.tokens + 1))


def test_no_room_at_all_is_an_empty_response(script, reader):
    assert respond(script(), reader, ["one"], max_new_tokens=0) == [[Response("", 0, False)]]


@pytest.mark.parametrize(("prompts", "samples"), [(["a", "b"], 1), (["a"], 2)])
def test_one_response_is_heard_at_a_time(prompts, samples):
    how = {"temperature": 1.0, "max_new_tokens": 8, "context": 64, "batch_size": 4, "seed": 5}
    with pytest.raises(ValueError, match="one response is heard at a time"):
        generate(None, None, prompts, samples=samples, hear=lambda one: None, **how)
