"""A text that all rows share joins nothing and hides nothing; near-duplicates below it are found as they are without it."""

import numpy as np
import pytest

from posttrain.data.near_duplicates import normalised, shingle_hashes
from posttrain.data.shared_text import CROWD, SharedText, common_hashes, crowds, leave_out_shared, sample_of
from posttrain.data.split import split
from posttrain.errors import DataError
from posttrain.records import Message, Question, Text
from posttrain.settings.data import SplitSettings

DEFAULT = SplitSettings()
VOCABULARY = np.array([f"word{number}" for number in range(4_000)])


def text(words, seed):
    return " ".join(np.random.default_rng(seed).choice(VOCABULARY, words))


SYSTEM = text(300, seed=0)
TOPICS = ("origami", "sourdough", "glacier melt", "type theory")


def own(count):
    """Questions of one form, as different as their numbers and topics make them, and not near-duplicates."""
    draw = np.random.default_rng(1)
    return [f"Explain {TOPICS[draw.integers(4)]} for level {draw.integers(10_000, 99_999)} in prose" for _ in range(count)]


def chat(system, questions):
    return [
        Question(id=str(number), prompt=(Message(role="system", content=system), Message(role="user", content=question)))
        for number, question in enumerate(questions)
    ]


def plain(prompts):
    return [Question(id=str(number), prompt=prompt) for number, prompt in enumerate(prompts)]


def partition(records, **settings):
    """Return the families as sets of rows, whatever their numbers."""
    family = split(records, settings=SplitSettings(**settings)).family
    return {tuple(np.flatnonzero(family == number)) for number in np.unique(family)}


@pytest.mark.parametrize("count", [CROWD, 200])
def test_one_system_prompt_before_different_questions_is_no_family(count):
    questions = own(count)
    assert partition(chat(SYSTEM, questions)) == partition(plain(questions))
    assert len(partition(chat(SYSTEM, questions))) == count


@pytest.mark.parametrize("form", ["{system}\n\n{question}", "{question}\n\n{system}", "{system} {question} {end}"])
def test_text_around_every_prompt_changes_no_family(form):
    stems = [text(40, seed=100 + number) for number in range(40)]
    prompts = []
    for number in range(120):  # three of each stem: as it is, with another last word, with another first word
        words = stems[number % 40].split()
        words[{0: 0, 1: 39, 2: 0}[number // 40]] += "x" * (number // 40)
        prompts.append(" ".join(words))
    around = [form.format(system=SYSTEM, question=prompt, end=text(100, seed=7)) for prompt in prompts]
    expected = partition(plain(prompts))
    assert len(expected) == 40
    assert partition(plain(around)) == expected


def test_several_system_prompts_and_none_in_one_dataset():
    questions = own(240)
    mixed = [
        *chat(SYSTEM, questions[:80]),
        *chat(text(300, seed=2), questions[80:160]),
        *plain(questions[160:]),
    ]
    assert len(partition(mixed)) == 240
    twins = chat(SYSTEM, questions) + plain(questions)  # the same questions with it and without it
    assert len(partition(twins)) < 300


def test_a_template_within_a_template_takes_another_round(monkeypatch):
    outer, inner = text(600, seed=3), text(100, seed=4)
    records = plain([f"{outer} {question}" for question in own(60)] + [f"{outer} {inner} {one}" for one in own(120)[60:]])
    assert len(partition(records)) == 120
    monkeypatch.setattr("posttrain.data.split.LEVELS", 1)
    assert len(partition(records)) < 120


def test_prompts_that_are_nothing_but_the_template_stay_together():
    records = chat(SYSTEM, [*own(40), "", "", "!"])
    family = split(records, settings=DEFAULT).family
    assert family[-1] == family[-2] == family[-3]
    assert np.unique(family).size == 41


def test_near_duplicates_that_differ_at_random_places_stay_one_family_however_many_they_are():
    draw = np.random.default_rng(5)
    stem = text(60, seed=6).split()
    copies = []
    for number in range(200):
        words = list(stem)
        words[draw.integers(60)] = f"typo{number}"
        copies.append(" ".join(words))
    parts = split(plain([*copies, *own(100)]), settings=DEFAULT)
    assert np.unique(parts.family[:200]).size == 1
    assert not parts.is_held_out[:200].any()


def test_few_prompts_that_share_a_text_are_a_family_as_before():
    records = plain([f"{SYSTEM} {question}" for question in own(CROWD - 1)] + own(40)[20:])
    assert np.unique(split(records, settings=DEFAULT).family[: CROWD - 1]).size == 1


def test_a_family_that_fits_among_the_held_out_is_left_as_it_is():
    records = plain([f"{SYSTEM} {question}" for question in own(20)] + own(220)[20:])  # 20 of 220; 22 are held out
    assert np.unique(split(records, settings=DEFAULT).family[:20]).size == 1


def test_the_order_of_the_records_does_not_matter(monkeypatch):
    monkeypatch.setattr("posttrain.data.shared_text.SAMPLE", 50)
    records = chat(SYSTEM, own(310))
    forward, backward = (split(rows, settings=DEFAULT).is_held_out for rows in (records, records[::-1]))
    assert forward.sum() == 31 and forward.tolist() == backward[::-1].tolist()


def test_nothing_held_out_is_in_training_below_a_shared_prompt():
    questions = [f"{question}, please" if number % 2 else question for number, question in enumerate(np.repeat(own(60), 2))]
    parts = split(chat(SYSTEM, [str(each) for each in questions]), settings=SplitSettings(near_duplicate=0.6))
    assert parts.is_held_out.sum() == 12
    assert (parts.is_held_out[::2] == parts.is_held_out[1::2]).all()


def test_texts_alone_and_equal_prompts_alone_are_no_crowd():
    assert not split(
        [Text(id=str(number), text=f"{SYSTEM} {number}") for number in range(30)], settings=DEFAULT
    ).is_held_out.any()
    with pytest.raises(DataError, match=r"30 records with a prompt are one family"):
        split(plain([SYSTEM] * 30), settings=DEFAULT)


def test_an_iterator_is_refused():
    with pytest.raises(ValueError, match=r"^split reads the records several times: give it a list, not an iterator$"):
        split(iter(plain(own(3))), settings=DEFAULT)


def test_crowds_by_hand():
    family = np.array([0] * 12 + [1] * 12 + [2] * 3, dtype=np.int32)
    normal = np.array([*range(12), *([99] * 12), *range(50, 53)], dtype=np.uint64)
    counted = np.ones(27, dtype=np.bool_)
    assert [rows.tolist() for rows in crowds(family, normal, counted, room=11)] == [list(range(12))]  # family 1 is one prompt
    assert list(crowds(family, normal, counted, room=12)) == []  # it would fit
    counted[0] = False  # a text does not count
    assert list(crowds(family, normal, counted, room=11)) == []
    assert sample_of(np.arange(12, 27), normal).tolist() == [24, 25, 26, 12]


def test_common_hashes_by_hand():
    # 7 is in all three, 8 in two; twice in one prompt counts once
    prompts = [np.array(each, dtype=np.uint32) for each in ([8, 7, 7], [7, 100], [9, 8, 7])]
    assert common_hashes(prompts).tolist() == [7]


def test_leaving_out_by_hand():
    shared = SharedText(np.zeros(3, dtype=np.int32))
    shared.leave_out(np.array([0, 1]), np.array([1, 2], dtype=np.uint32))
    shared.leave_out(np.array([1, 2]), np.array([3], dtype=np.uint32))
    hashes = np.array([1, 3, 5, 1, 3, 6, 1, 3], dtype=np.uint32)
    kept, counts = shared.without(slice(0, 3), hashes, np.array([3, 3, 2]))
    assert (kept.tolist(), counts.tolist()) == ([3, 5, 6, 1], [2, 1, 1])
    kept, counts = shared.without(slice(0, 1), np.array([2, 1, 2], dtype=np.uint32), np.array([3]))
    assert (kept.tolist(), counts.tolist()) == ([2, 1, 2], [3])  # it has nothing else
    assert not leave_out_shared(shared, [], np.zeros(3, dtype=np.uint64), lambda _: iter(()))


def test_boundaries_add_shingles_but_no_likeness():
    alone, with_system = (set(shingle_hashes([normalised(each)])[0].tolist()) for each in ("a b c d", f"{SYSTEM} a b c d"))
    assert alone < with_system
