"""Notes that differ in numbers alone are one note with ranges; every other note stays as it is."""

import pytest

from posttrain.comparison.notes import merged_notes


def test_notes_that_differ_in_numbers_are_one_with_the_range_of_each():
    notes = [
        "5 annotators got 7.0% of 4,104 labels wrong; no person was asked",
        "PPO was rewarded by answer",
        "5 annotators got 10.5% of 3,911 labels wrong; no person was asked",
        "5 annotators got 9.1% of 13,639 labels wrong; no person was asked",
        "PPO was rewarded by answer",
    ]
    assert merged_notes(notes) == [
        "5 annotators got 7.0 to 10.5% of 3,911 to 13,639 labels wrong; no person was asked",
        "PPO was rewarded by answer",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("judge base-641ac1df", "judge base-7d20"),
        ("a model of 2.7B", "a model of 1.5B"),
        ("version 1.2.3", "version 1.2.4"),
        ("PPO asked 5", "GRPO asked 5"),
        ("seed 3 stopped early", "seed 15 stopped early"),
    ],
)
def test_names_that_hold_digits_are_no_numbers(one, other):
    assert merged_notes([one, other]) == [one, other]


def test_numbers_at_the_ends_of_a_note():
    assert merged_notes(["3 of 4", "2 of 4.", "1 of 5"]) == ["1 to 3 of 4 to 5", "2 of 4."]


def test_without_notes_there_are_none():
    assert merged_notes([]) == []
