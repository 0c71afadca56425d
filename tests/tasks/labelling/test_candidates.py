"""What may be asked, drawn from samples, and what is known of it: by hand, and with a real reward model."""

import json
import math
from itertools import combinations

import pytest

from models.load import device, load_tokenizer, prompt_text
from models.reward import centred, reward_network, save_reward_model, score_texts
from posttrain.errors import DataError, StorageError
from posttrain.feedback.labels import Label
from posttrain.labelling.items import Candidate, Response, draw_items
from posttrain.labelling.selections import Opinions
from posttrain.settings.feedback import LabelSettings
from posttrain.settings.model import ModelSettings
from tasks.labelling.candidates import (
    KNOWN,
    Pool,
    draw_candidates,
    draw_checks,
    opinions_of,
    reward_scores,
    texts_of,
    verdicts_on,
)

RIGHT, WRONG, CUT = "Answer: 4", "Answer: 5", "Answer: 6 and"
SETTINGS = LabelSettings(pairs_per_prompt=3)


def samples(folder, questions):
    """Write samples: by question's id its responses, each with whether it ended, and its answers."""
    rows = [
        {
            "question": {
                "id": name,
                "kind": "question",
                "prompt": f"What is {name}?",
                "answers": answers,
                "family": f"family of {name}",
            },
            "responses": [[text, is_finished] for text, is_finished in given],
        }
        for name, (given, answers) in questions.items()
    ]
    folder.mkdir(exist_ok=True)
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def pool(tmp_path):
    three = [(RIGHT, True), (WRONG, True), (CUT, False), (RIGHT, True)]  # one is drawn twice
    return Pool(samples(tmp_path, {f"q{number}": (three, ["4"]) for number in range(6)}), "stage:sft/aa", seed=0)


def pair(question, first, second, **more):
    prompt = f"What is {question}?"
    return Candidate(question, prompt, (Response(text=first), Response(text=second)), selection="", **more)


def label(question, first, second, preference, source="person"):
    return Label(
        id=f"{question}/{first}/{second}",
        prompt=f"What is {question}?",
        question=question,
        group=question,
        first=first,
        second=second,
        preference=preference,
        annotator="ada",
        source=source,
    )


# --- candidates -------------------------------------------------------------------------------------------------------


def test_pairs_are_those_of_every_source_of_labels(pool):
    found = draw_candidates(pool, kind="pair", responses=4, settings=SETTINGS)
    assert len(found) == 18 and {one.question for one in found} == {f"q{number}" for number in range(6)}
    asked = {texts_of(one.question, (each.text for each in one.responses)) for one in found}
    assert asked == {texts_of(f"q{number}", two) for number in range(6) for two in combinations((RIGHT, WRONG, CUT), 2)}
    one = next(each for each in found if each.responses[0].text == CUT)
    assert one.responses[0].finished is False and one.responses[0].model == "stage:sft/aa"
    assert one.family == f"family of {one.question}" and one.prompt == f"What is {one.question}?"
    assert all(each.known is None and each.selection == "" for each in found), "only a check has a known order"
    gold = {tuple(text.text for text in each.responses): each.gold for each in found}
    for texts, better in gold.items():
        assert better == float(texts[0] == RIGHT or (texts[0] == WRONG and texts[1] == CUT))


def test_equal_seeds_draw_equal_candidates_and_others_draw_others(pool):
    def drawn(seed, kind="pair"):
        fresh = Pool(pool.samples, pool.model_uri, seed)
        return draw_candidates(fresh, kind=kind, responses=2, settings=LabelSettings(pairs_per_prompt=1))

    for kind in ("pair", "rating"):
        assert drawn(0, kind) == drawn(0, kind) and drawn(0, kind) != drawn(1, kind)


def test_what_was_asked_is_not_asked_again_in_whatever_order(pool):
    asked = {texts_of("q0", (WRONG, RIGHT)), texts_of("q1", (RIGHT,))}
    left = draw_candidates(Pool(pool.samples, "", 0, asked), kind="pair", responses=2, settings=SETTINGS)
    assert len(left) == 17 and all(
        {each.text for each in one.responses} != {RIGHT, WRONG} for one in left if one.question == "q0"
    )
    rated = draw_candidates(Pool(pool.samples, "", 0, asked), kind="rating", responses=3, settings=SETTINGS)
    assert {one.question for one in rated} == {"q0", "q2", "q3", "q4", "q5"}, "a response of q1 was rated"


@pytest.mark.parametrize(("kind", "most", "count"), [("ranking", 3, 3), ("ranking", 9, 3), ("rating", 2, 2)])
def test_groups_hold_different_responses_to_one_question(pool, kind, most, count):
    found = draw_candidates(pool, kind=kind, responses=most, settings=SETTINGS)
    assert len(found) == 6
    assert all(len({each.text for each in one.responses}) == len(one.responses) == count for one in found)
    assert {each.finished for one in found for each in one.responses if each.text == CUT} == {False}
    items = draw_items(found, kind=kind, size=100, seed=0)
    assert len(items) == (6 if kind == "ranking" else 12)


def test_a_question_whose_samples_are_alike_has_nothing_to_compare(tmp_path):
    alike = {"q": ([(RIGHT, True), (RIGHT, True)], ["4"])}
    for kind in ("pair", "ranking"):
        with pytest.raises(DataError, match=r"so there is nothing to label. Sample more \(sample.per_prompt\), or hotter"):
            draw_candidates(Pool(samples(tmp_path, alike), "", 0), kind=kind, responses=4, settings=LabelSettings())


def test_nothing_left_to_ask_is_told(pool):
    asked = {texts_of(f"q{number}", two) for number in range(6) for two in combinations((RIGHT, WRONG, CUT), 2)}
    with pytest.raises(DataError) as refused:
        draw_candidates(Pool(pool.samples, "", 0, asked), kind="pair", responses=2, settings=SETTINGS)
    assert str(refused.value) == (
        "people were asked about all 18 candidates that these samples give. Sample more of a question (sample.per_prompt) or of "
        "more questions (sample.question_share), or label another dataset"
    )


# --- checks -----------------------------------------------------------------------------------------------------------


def test_checks_hold_a_right_and_a_wrong_answer(pool):
    found = draw_checks(pool, LabelSettings(pairs="decided", pairs_per_prompt=1), most=100)
    assert len(found) == 12, "of each question right against wrong and right against cut off; not wrong against cut off"
    for one in found:
        best = one.responses[one.known[0]].text
        assert best == RIGHT and sorted(one.known) == [0, 1] and one.selection == KNOWN
    assert {one.known for one in found} == {(0, 1), (1, 0)}, "the right one is not always the first"
    assert draw_checks(pool, SETTINGS, most=5) == draw_checks(pool, SETTINGS, most=12)[:5]


def test_checks_leave_out_what_is_asked_anyway(pool):
    asked = {texts_of(f"q{number}", (RIGHT, WRONG)) for number in range(6)}
    found = draw_checks(Pool(pool.samples, "", 0, asked), SETTINGS, most=100)
    assert len(found) == 6 and all({each.text for each in one.responses} == {RIGHT, CUT} for one in found)


def test_without_answers_there_is_no_check(tmp_path):
    given = {"q": ([(RIGHT, True), (WRONG, True)], [])}
    assert draw_checks(Pool(samples(tmp_path, given), "", 0), SETTINGS, most=9) == []
    assert draw_checks(Pool(samples(tmp_path, {"q": ([(RIGHT, True)], ["4"])}), "", 0), SETTINGS, most=9) == []


# --- opinions ---------------------------------------------------------------------------------------------------------


def test_opinions_are_of_the_first_response_whatever_order_the_labels_have():
    asked = [pair("q0", "a", "b"), pair("q0", "b", "a"), pair("q1", "a", "b")]
    judged = [label("q0", "b", "a", 0.75, source="judge")]
    people = [label("q0", "a", "b", 1.0), label("q0", "b", "a", 1.0), label("q0", "a", "b", 1.0)]
    found = opinions_of(asked, rewards=[((1.0, 2.0),)] * 3, judged=judged, people=people)
    assert [one.judge for one in found] == [0.25, 0.75, None]
    two_of_three, one_of_three = pytest.approx(2 / 3), pytest.approx(1 / 3)
    assert [one.people for one in found] == [two_of_three, one_of_three, None], "two of three say that a is better"
    assert all(one.rewards == ((1.0, 2.0),) for one in found)
    assert opinions_of(asked) == [Opinions()] * 3


def test_verdicts_are_of_the_items_that_the_judge_was_asked():
    items = draw_items([pair("q0", "b", "a"), pair("q1", "a", "b")], kind="pair", size=2, seed=0)
    of_q0 = next(item for item in items if item.question == "q0")
    assert verdicts_on(items, [label("q0", "a", "b", 0.25, source="judge")]) == {of_q0.id: 0.75}


def test_a_reward_model_scores_each_response_by_each_member(tiny_world, tmp_path):
    reader = load_tokenizer(tiny_world.tokenizer)
    members = [
        centred(
            reward_network(tiny_world.base / "model", ModelSettings(), on=device(), pad=reader.pad_token_id, seed=seed), at=0.5
        )
        for seed in (1, 2)
    ]
    save_reward_model(members, reader, tmp_path / "model")
    asked = [pair("q0", "yes", "no"), pair("q1", "no", "yes")]
    found = reward_scores(tmp_path / "model", asked, batch_size=3)
    assert [[len(scores) for scores in one] for one in found] == [[2, 2], [2, 2]]
    for number, member in enumerate(members):
        for one, scores in zip(asked, found, strict=True):
            texts = [prompt_text(reader, one.prompt) + each.text for each in one.responses]
            assert scores[number] == pytest.approx(score_texts([member], reader, texts, batch_size=2), abs=1e-4)
    assert found[0][0] != found[0][1], "members differ"

    with pytest.raises(
        StorageError, match=r"is not there any more\. Train it again \(make pipeline METHOD=rlhf\), or draw at random"
    ):
        reward_scores(tmp_path / "nowhere", asked, batch_size=3)
    save_reward_model([centred(members[0], at=math.nan)], reader, tmp_path / "broken")
    with pytest.raises(StorageError, match="gives scores that are no numbers"):
        reward_scores(tmp_path / "broken", asked, batch_size=3)
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"")
    with pytest.raises(StorageError, match="broken cannot be loaded: "):
        reward_scores(tmp_path / "broken", asked, batch_size=3)
