"""No family straddles, near-duplicates are found, look-alikes are not, and the arithmetic is datasketch's and the textbook's."""

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.data import near_duplicates as subject
from posttrain.data.near_duplicates import minhashes, normalised, rows_a_band, shingle_hashes
from posttrain.data.roles import in_roles, roles_of
from posttrain.data.split import split
from posttrain.errors import DataError
from posttrain.records import Demonstration, Message, Preference, Question, Ranking, Rating, Record, Text
from posttrain.settings.data import SplitSettings

DEFAULT = SplitSettings()
STORY = "the old miller walked down to the river with nine empty sacks and a lantern in his left hand before dawn"


def questions(*prompts, family=None):
    return [Question(id=str(number), prompt=prompt, family=family) for number, prompt in enumerate(prompts)]


def distinct(count, *, start=0):
    """Prompts that share no word."""
    return [" ".join(f"w{number}x{word}" for word in range(8)) for number in range(start, start + count)]


def families(*prompts, near_duplicate=0.8):
    return (
        split(questions(*prompts, *distinct(2)), settings=SplitSettings(near_duplicate=near_duplicate))
        .family[: len(prompts)]
        .tolist()
    )


def grams(text):
    words = normalised(text).split()
    return {tuple(words[at : at + 3]) for at in range(len(words) - 2)} or set(words)


def similarity(one, other):
    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


def test_prompts_that_differ_in_case_punctuation_and_spaces_are_one_family():
    one, other, third = families("What is 3 + 4?", " what IS\n3 + 4", "What is 3 - 4?")
    assert one == other
    assert third != one


def test_a_message_prompt_and_unicode_forms_are_compared_too():
    said = [
        Question(id=str(number), prompt=(Message(role="user", content=text),))
        for number, text in enumerate(("ﬁsh", "fish", "fowl"))
    ]
    assert np.unique(split(said, settings=DEFAULT).family).size == 2


def test_the_threshold_is_the_jaccard_similarity_of_word_trigrams():
    # 20 words make 18 trigrams. Another last word changes one of them: 17 shared of 19, 0.8947.
    other = STORY.rsplit(" ", 1)[0] + " noon"
    assert len(grams(STORY)) == 19 and similarity(STORY, other) == 18 / 20
    assert len(set(families(STORY, other, near_duplicate=0.9))) == 1
    assert len(set(families(STORY, other, near_duplicate=0.91))) == 2


def test_a_chain_of_near_duplicates_is_one_family():
    words = STORY.split()
    chain = [" ".join(words[:cut]) for cut in (16, 18, 20)]  # 14 of 16 trigrams, 16 of 18; but 14 of 18 = 0.78 end to end
    assert similarity(chain[0], chain[2]) < 0.8 <= min(similarity(*chain[:2]), similarity(*chain[1:]))
    assert len(set(families(*chain))) == 1


def test_templates_do_not_collapse_into_one_family():
    template = "a shop sells {0} crates of {1} and then buys {2} more crates of {3} from {4} so how many are there"
    draw = np.random.default_rng(0)
    prompts = [template.format(*(f"t{number}" for number in draw.integers(0, 50, 5))) for _ in range(500)]
    parts = split(questions(*prompts), settings=DEFAULT)
    assert np.bincount(parts.family).max() < 10


def test_every_pair_above_the_threshold_is_found_in_a_crowd():
    draw = np.random.default_rng(1)
    vocabulary = np.array([f"v{number}" for number in range(40)])
    stems = [draw.choice(vocabulary, 25) for _ in range(60)]
    prompts = []
    for number in range(240):
        words = stems[number % 60].copy()
        words[draw.integers(0, 25, draw.integers(0, 3))] = "changed"
        prompts.append(" ".join(words))
    family = split(questions(*prompts), settings=SplitSettings(near_duplicate=0.6)).family
    near = [(one, other) for one in range(240) for other in range(one) if similarity(prompts[one], prompts[other]) >= 0.6]
    assert len(near) > 100
    assert sum(family[one] != family[other] for one, other in near) == 0
    assert len(np.unique(family)) > 50


def test_long_prompts_are_compared_by_estimate():
    words = [f"long{number}" for number in range(1_000)]
    near = " ".join(["other", *words[1:]])  # 1 of 998 trigrams changes
    far = " ".join(words[:600] + [f"far{number}" for number in range(400)])  # 598 shared of 1,398: 0.43
    one, other, third = families(" ".join(words), near, far)
    assert one == other != third


def estimated(one, other):
    hashes = [subject._mixed(np.array(sorted(part), dtype=np.uint32)) for part in (one, other)]
    sketches, sizes, kept = subject._sketches(np.concatenate(hashes), np.array([len(part) for part in hashes]))
    blank = np.zeros(2, dtype=np.uint64)
    prompts = subject.Prompts(blank, blank, blank, blank, blank, blank, sizes, kept, blank, sketches.astype(np.int32))
    return subject.jaccard(subject._sketch_matrix(prompts), sizes, np.array([0]), np.array([1]))[0]


def test_the_larger_set_decides_how_much_of_the_overlap_was_sampled():
    # 300 of 400: A keeps 128 / 400 of itself, so 96 of the 300 are expected in both sketches (± 5); 96 × 400 / 128 = 300.
    assert estimated(range(400), range(300)) == pytest.approx(300 / 400, abs=0.15)
    assert estimated(range(300), range(400)) == pytest.approx(300 / 400, abs=0.15)


@given(st.sets(st.integers(0, 400), min_size=200, max_size=300), st.sets(st.integers(0, 400), min_size=1, max_size=300))
@settings(max_examples=25, deadline=None)
def test_the_estimate_is_near_the_truth_however_unequal_the_sizes(one, other):
    assert estimated(one, other) == pytest.approx(len(one & other) / len(one | other), abs=0.2)


def test_signatures_are_those_of_datasketch():
    texts = [STORY, "one two", "", STORY[::-1]]
    hashes, counts = shingle_hashes([normalised(text) for text in texts])
    assert counts.tolist() == [19, 2, 1, 1 if " " not in STORY[::-1] else 19]
    ends = np.cumsum(counts)
    for number, (end, count) in enumerate(zip(ends, counts, strict=True)):
        theirs = MinHash(num_perm=128, seed=1, scheme="affine32", hashfunc=int)
        theirs.update_batch(hashes[end - count : end])
        assert (minhashes(hashes, counts)[:, number] == theirs.hashvalues).all()


def test_shingles_do_not_reach_into_the_next_text():
    together, counts = shingle_hashes(["a b c d", "e f g", "h i", "j"])
    apart = [shingle_hashes([text])[0] for text in ("a b c d", "e f g", "h i", "j")]
    assert counts.tolist() == [2, 1, 2, 1]
    assert together.tolist() == np.concatenate(apart).tolist()


def test_bands_miss_a_pair_at_the_threshold_with_one_percent_at_most():
    # 0.8: rows 6, bands 21, (1 - 0.8^6)^21 = 0.0017; 7 rows and 18 bands would miss 0.0145.
    assert (1 - 0.8**6) ** 21 < 0.01 < (1 - 0.8**7) ** 18
    assert (rows_a_band(0.8), rows_a_band(1.0), rows_a_band(0.01)) == (6, 128, 1)


def test_a_named_family_stays_together_and_takes_its_copies_along():
    records = [
        Question(id="a", prompt="first prompt of all", family="x"),
        Question(id="b", prompt="something else entirely", family="x"),
        Question(id="c", prompt="Something else entirely."),
        *questions(*distinct(3)),
    ]
    family = split(records, settings=DEFAULT).family
    assert family[0] == family[1] == family[2]
    assert np.unique(family).size == 4


def test_two_names_are_not_joined_by_a_near_duplicate_but_by_an_equal_prompt():
    near = STORY.rsplit(" ", 1)[0] + " noon"
    rows = [Question(id="a", prompt=STORY, family="x"), Question(id="b", prompt=near, family="y")]
    assert np.unique(split(rows, settings=DEFAULT).family).size == 2
    rows.append(Question(id="c", prompt=STORY, family="y"))
    with pytest.raises(DataError, match=r"^nothing can be held out: the dataset's 3 records with a prompt are one family"):
        split(rows, settings=DEFAULT)


@pytest.mark.parametrize(("share", "most", "expected"), [(0.1, 2_000, 20), (0.25, 2_000, 50), (0.25, 7, 7), (0.001, 2_000, 1)])
def test_the_share_is_met_exactly_where_families_are_single(share, most, expected):
    parts = split(questions(*distinct(200)), settings=SplitSettings(held_out=share, max_held_out=most))
    assert parts.is_held_out.sum() == expected


def test_a_family_that_would_overshoot_is_passed_over():
    records = [*questions(*distinct(90), family="large"), *questions(*distinct(10, start=90))]
    held_out = split(records, settings=SplitSettings(held_out=0.05)).is_held_out
    assert held_out.sum() == 5 and not held_out[:90].any()


def test_one_family_is_always_left_to_train_on():
    assert split(questions(*distinct(2)), settings=SplitSettings(held_out=0.99)).is_held_out.sum() == 1


def test_the_smallest_family_is_taken_where_none_fits():
    records = [*questions(*distinct(6), family="six"), *questions(*distinct(4, start=6), family="four")]
    assert split(records, settings=DEFAULT).is_held_out.tolist() == [False] * 6 + [True] * 4


def test_another_seed_draws_other_families_and_the_order_of_records_does_not_matter():
    prompts = distinct(100)
    first, second = (split(questions(*prompts), settings=SplitSettings(seed=seed)).is_held_out for seed in (0, 1))
    assert (first != second).any()
    assert split(questions(*prompts[::-1]), settings=DEFAULT).is_held_out.tolist() == first[::-1].tolist()
    # As first measured, so that a change of hashing (which changes everyone's data) is noticed.
    assert np.flatnonzero(first).tolist() == FIRST_TEN


FIRST_TEN = [5, 15, 37, 64, 67, 72, 84, 85, 89, 91]


@pytest.mark.parametrize("count", [1, 3])
def test_one_family_cannot_be_split(count):
    with pytest.raises(DataError) as caught:
        split(questions(*["the same prompt"] * count), settings=DEFAULT)
    assert str(caught.value) == (
        f"nothing can be held out: the dataset's {count} records with a prompt are one family (equal or nearly equal prompts, "
        "or one family name), also by what differs between them. Import records with other prompts as well, or, where they only "
        "look alike, give each a family of its own (FORMAT=records, field family)"
    )


def test_families_larger_than_the_limit_cannot_be_split():
    records = [*questions(*distinct(3), family="x"), *questions(*distinct(4, start=3), family="y")]
    with pytest.raises(DataError) as caught:
        split(records, settings=SplitSettings(max_held_out=2))
    assert str(caught.value) == (
        "nothing can be held out: the smallest of the dataset's 2 families has 3 records, more than split.max_held_out (2). "
        "Raise it in params.yaml, or give the records narrower families"
    )


def test_no_record_is_refused():
    with pytest.raises(DataError, match=r"^there is no record to split"):
        split([], settings=DEFAULT)


def test_what_its_publisher_holds_out_is_held_out_and_no_more_and_nothing_like_it_is_trained_on():
    prompts = distinct(40)
    near = prompts[0] + " now"
    records = [
        *questions(*prompts[2:], near, prompts[1]),
        Text(id="t", text=prompts[1]),
        *(Question(id=f"held-{place}", prompt=prompts[place], answers=("1",), held_out=True) for place in (0, 1)),
        Text(id="u", text="a text that is held out", held_out=True),
    ]
    made = split(records, settings=SplitSettings(near_duplicate=0.5))
    named = np.array([record.id for record in records])
    assert named[made.is_held_out].tolist() == ["held-0", "held-1"]
    assert named[made.is_left_out].tolist() == ["38", "39", "t", "u"]
    assert set(named[made.is_asked & made.is_held_out]) == {"held-0", "held-1"}, "not the training record of the same prompt"


def test_where_only_texts_are_held_out_the_split_decides():
    records = [*questions(*distinct(20)), Text(id="t", text=" ".join(distinct(1))[:20], held_out=True)]
    made = split(records, settings=DEFAULT)
    assert made.is_held_out.sum() == 2
    assert made.is_left_out.tolist() == [*[False] * 20, True]


@pytest.mark.parametrize("near", [(), ("w1x0 w1x1 w1x2 w1x3 w1x4 w1x5 w1x6 w1x7 too",)])
def test_a_dataset_that_is_held_out_whole_is_refused(near):
    held_out = [record.model_copy(update={"held_out": True}) for record in questions(*distinct(2))]
    records = [*held_out, *questions(*near), Text(id="t", text="some other text")]
    with pytest.raises(
        DataError, match=rf"nothing is left to train on: each of the dataset's {2 + len(near)} records with a prompt is"
    ):
        split(records, settings=DEFAULT)


def test_texts_alone_are_not_held_out():
    assert not split([Text(id="a", text="t"), Text(id="b", text="u")], settings=DEFAULT).is_held_out.any()


def test_texts_do_not_count_but_go_with_their_family():
    texts = [Text(id=str(number), text=text) for number, text in enumerate(distinct(100, start=50))]
    copy = Text(id="copy", text=distinct(1)[0])
    asked = questions(*distinct(10))
    parts = split([*asked, *texts, copy], settings=DEFAULT)
    assert parts.is_held_out.sum() == 1 + parts.is_held_out[-1]  # 10 % of the 10 questions
    assert parts.is_held_out[-1] == parts.is_held_out[0]


def test_each_prompt_is_asked_once_by_a_record_with_an_answer():
    records = [
        Preference(id="a", prompt="q", chosen="x", rejected="y"),
        Demonstration(id="b", prompt="q", completion="x", answer="1"),
        Demonstration(id="c", prompt="q", completion="z", answer="2"),
        Demonstration(id="d", prompt="other words", completion="z"),
    ]
    assert split(records, settings=DEFAULT).is_asked.tolist() == [False, True, False, True]


words = st.sampled_from(["red", "green", "blue", "seven"])
rows = st.lists(
    st.builds(
        Demonstration,
        id=st.just("x"),
        prompt=st.lists(words, max_size=8).map(" ".join),
        completion=st.just("c"),
        family=st.none() | st.sampled_from(["f", "g"]),
    ),
    min_size=2,
    max_size=40,
)


@given(rows, st.floats(0.05, 0.95), st.floats(0.2, 1.0), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_no_family_ever_straddles(records, held_out, near_duplicate, most):
    chosen = SplitSettings(held_out=held_out, near_duplicate=near_duplicate, max_held_out=most)
    try:
        parts = split(records, settings=chosen)
    except DataError as error:
        assert str(error).startswith("nothing can be held out")
        return
    assert 0 < parts.is_held_out.sum() <= most
    assert not parts.is_held_out.all()
    side = {}
    for record, number, is_held_out in zip(records, parts.family.tolist(), parts.is_held_out.tolist(), strict=True):
        keys = [("number", number), ("prompt", normalised(record.prompt))] + [("name", record.family)] * (
            record.family is not None
        )
        for key in keys:
            assert side.setdefault(key, is_held_out) == is_held_out


DEMONSTRATION = Demonstration(id="a", prompt="q", completion="c", answer="1")
PREFERENCE = Preference(id="a", prompt="q", chosen="good", rejected="bad")
RATING = Rating(id="a", prompt="q", completion="c", score=1.0)
RANKING = Ranking(id="a", prompt="q", completions=("c", "d"), ranks=(2, 1))
QUESTION = Question(id="a", prompt="q", answers=("1", "one"))


def made(record, *, is_held_out=False, is_asked=True, has_demonstrations=False):
    return dict(in_roles(record, is_held_out=is_held_out, is_asked=is_asked, has_demonstrations=has_demonstrations))


def text(said):
    return Text(id="a", text=said)


def test_training_side_by_hand():
    bare = Question(id="a", prompt="q")
    asked = Question(id="a", prompt="q", answers=("1",))
    shown = Demonstration(id="a", prompt="q", completion="good")
    assert made(DEMONSTRATION) == {"questions": asked, "demonstrations": DEMONSTRATION, "corpus": text("q\nc")}
    assert made(PREFERENCE) == {"questions": bare, "preferences": PREFERENCE, "demonstrations": shown, "corpus": text("q\ngood")}
    assert made(RATING) == {"questions": bare, "ratings": RATING, "corpus": text("q\nc")}
    assert made(RANKING) == {"questions": bare, "rankings": RANKING, "corpus": text("q\nd")}
    assert made(QUESTION) == {"questions": QUESTION, "corpus": text("q\n1")}
    assert made(text("t")) == {"corpus": text("t")}


def test_held_out_side_by_hand():
    asked = Question(id="a", prompt="q", answers=("1",), reference="c")
    assert made(DEMONSTRATION, is_held_out=True) == {"held_out": asked}
    chosen = Question(id="a", prompt="q", reference="good")
    assert made(PREFERENCE, is_held_out=True) == {"held_out": chosen, "held_out_preferences": PREFERENCE}
    for record in (RATING, RANKING):
        assert made(record, is_held_out=True) == {"held_out": Question(id="a", prompt="q")}
    assert made(PREFERENCE, is_held_out=True, is_asked=False) == {"held_out_preferences": PREFERENCE}
    assert made(text("t"), is_held_out=True) == {}


def test_chosen_completions_stand_in_only_where_there_are_no_demonstrations():
    assert "demonstrations" not in made(PREFERENCE, has_demonstrations=True)
    held_out = made(PREFERENCE, is_held_out=True, has_demonstrations=True)["held_out"]
    assert held_out == Question(id="a", prompt="q"), "SFT would not have imitated the chosen completion"


def test_what_a_dataset_calls_bad_is_never_imitated():
    bad = RATING.model_copy(update={"score": 0.0})
    assert made(bad) == {"questions": Question(id="a", prompt="q"), "ratings": bad, "corpus": text("q\n")}
    reversed_pair = PREFERENCE.model_copy(update={"margin": -1.0})
    assert made(reversed_pair) == {
        "questions": Question(id="a", prompt="q"),
        "preferences": reversed_pair,
        "corpus": text("q\n"),
    }


def test_a_conversation_and_its_completion_make_one_transcript():
    record = Demonstration(id="a", prompt=(Message(role="user", content="q"),), completion="c")
    assert made(record)["corpus"] == text("\n\nHuman: q\n\nAssistant: c")


def test_every_role_that_a_record_takes_is_announced():
    for record in (DEMONSTRATION, PREFERENCE, RATING, RANKING, QUESTION, text("t")):
        taken = set(made(record)) | set(made(record, is_held_out=True))
        assert taken == set(roles_of([record.kind]))
    assert roles_of(["rating", "text"]) == ("corpus", "questions", "ratings", "held_out")


@pytest.mark.parametrize("kind", ["demonstration", "preference"])
def test_a_dataset_of_one_kind_holds_some_out_to_be_measured_on_and_trains_on_none_of_it(kind):
    numbers = range(40)
    records: list[Record] = [
        Demonstration(id=str(n), prompt=f"Say {n} to number {n * 7}.", completion=f"said {n} to it")
        if kind == "demonstration"
        else Preference(id=str(n), prompt=f"Say {n} to number {n * 7}.", chosen=f"said {n} to it", rejected=f"no {n} to it")
        for n in numbers
    ]
    sides = split(records, settings=SplitSettings(held_out=0.25))
    files: dict[str, list[Record]] = {}
    for record, is_held_out, is_asked in zip(records, sides.is_held_out, sides.is_asked, strict=True):
        roles = in_roles(record, is_held_out=is_held_out, is_asked=is_asked, has_demonstrations=kind == "demonstration")
        for role, made_of_it in roles:
            files.setdefault(role, []).append(made_of_it)
    held_out = [record for role in files if role.startswith("held_out") for record in files[role]]
    references = {record.reference for record in held_out if isinstance(record, Question)}
    assert len(references) == 10 and None not in references
    trained = "\n".join(str(record) for role in files if not role.startswith("held_out") for record in files[role])
    assert len(files["demonstrations"]) == 30 and "said " in trained
    for record in held_out:
        assert record.prompt not in trained and record.id not in {one.id for one in files["questions"]}
    assert not any(reference in trained for reference in references)
