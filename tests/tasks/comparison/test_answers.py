import pytest

from tasks.comparison.answers import FOLDED, LONGEST, MOST, SHORTEST, longest_of, looks_like_code, questions_of, text_of
from tests.fabricated_comparison import comparison, logs


def test_a_long_text_is_folded_and_a_longer_one_is_cut():
    assert text_of("a" * FOLDED).start == "" and text_of("a" * (FOLDED + 1)).start == "a" * 200 + " …"
    cut = text_of("a" * (LONGEST + 1))
    assert (len(cut.whole), cut.length, cut.is_cut) == (LONGEST, LONGEST + 1, True) and not text_of("a" * LONGEST).is_cut


@pytest.mark.parametrize(("texts", "longest"), [(0, LONGEST), (100, LONGEST), (300, MOST // 300), (100_000, SHORTEST)])
def test_the_more_texts_the_less_of_each(texts, longest):
    assert longest_of(texts) == longest


@pytest.mark.parametrize(
    ("text", "is_code"),
    [
        ("def f():\n    return 1", True),
        ("```\nx\n```", True),
        ("if (x) {\n\ty();\n}", True),
        ("He said:\nfive", False),
        ("  indented words", False),
        ("", False),
    ],
)
def test_code_is_known_by_its_lines(text, is_code):
    assert looks_like_code(text) is is_code


def test_questions_keep_what_each_method_gave():
    made = comparison()
    first = questions_of(made)[0]
    assert (first.name, first.right, [one.title for one in first.given][:2]) == ("q0", "2", ["SFT", "DPO"])
    assert [one.is_right for one in first.given] == [False, True, True, True, False, False]
    assert len(questions_of(logs())) == 8 and questions_of(made | {"answers": None}) == []
