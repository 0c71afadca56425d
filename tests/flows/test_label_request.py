"""What the words behind `make label` ask for, and what is refused before anything is loaded."""

import pytest

from flows.label_request import LabelRequest, given_words, label_request
from flows.verbs import words_of
from posttrain.errors import RequestError
from posttrain.settings.config import merge


def asked(*words):
    given, settings = given_words(words_of("label", words))
    return label_request(given, port=merge({}, settings).labelling.port), merge({}, settings)


def test_words_that_say_what_settings_say():
    request, config = asked("DATA=mine", "METHOD=ppo", "BATCH=50", "PER_ITEM=2", "PORT=8020", "SET=labelling.kind=ranking seed=3")
    labelling = config.labelling
    assert (config.data.name, config.row.starts_from, config.seed) == ("mine", "base", 3)
    assert (labelling.batch, labelling.per_item, labelling.port, labelling.kind) == (50, 2, 8020, "ranking")
    assert request == LabelRequest(of_new=("BATCH=50", "PER_ITEM=2"), port=8020)


def test_nothing_said():
    request, config = asked()
    assert request == LabelRequest() and request.port is None and config.labelling.port == 8010


@pytest.mark.parametrize("people", ["ada ben", "ada,ben", " ada, ben ", "ada ben ada"])
def test_people(people):
    assert asked(f"PEOPLE={people}")[0].people == ("ada", "ben")


def test_names_of_other_alphabets():
    assert asked("PEOPLE=Zoë 美咲 o.k@example.org")[0].people == ("Zoë", "美咲", "o.k@example.org")


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (("PEOPLE=cem", "LINKS=1"), LabelRequest(people=("cem",), is_links_only=True)),
        (("REVOKE=ada ben",), LabelRequest(revoke=("ada", "ben"))),
    ],
)
def test_what_serves_no_page(words, request_):
    found, _ = asked(*words)
    assert found == request_


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("NEW=yes",), "NEW must be 1 (make another batch although one is not finished) or 0, got yes"),
        (("LINKS=1",), 'LINKS=1 needs PEOPLE, who get the links: make label PEOPLE="ada ben" LINKS=1'),
        (("NEW=1", "LINKS=1", "PEOPLE=ben"), "NEW and LINKS are asked for, and each is a command of its own"),
        (("REVOKE=ada", "LINKS=1", "PEOPLE=ben"), "LINKS and REVOKE are asked for, and each is a command of its own"),
        (("REVOKE=ada", "PEOPLE=ben"), "PEOPLE get links, and REVOKE ends some: give one of the two"),
        (("PEOPLE=,",), "PEOPLE must hold a name, got ','"),
        (("PEOPLE=a/b",), "PEOPLE must be names of letters, digits and ._@+-, 60 at most of each, got 'a/b'"),
        (("REVOKE=-x",), "REVOKE must be names of letters, digits and ._@+-, 60 at most of each, got '-x'"),
        (("PEOPLE=" + "a" * 61,), f"PEOPLE must be names of letters, digits and ._@+-, 60 at most of each, got '{'a' * 61}'"),
        (("BATCH=0",), "labelling.batch must be at least 1, got 0"),
        (("PER_ITEM=two",), "labelling.per_item must be a whole number, got two"),
        (("PORT=80",), "labelling.port must be at least 1024, got 80"),
        (("SET=labelling.kind=pairs",), "labelling.kind must be one of 'pair', 'ranking' or 'rating', got pairs"),
        (
            ("SET=labelling.selection=uncertainty",),
            "labelling.selection must be one of 'random', 'uncertain', 'disagreement' or 'spread', got uncertainty",
        ),
    ],
)
def test_what_is_refused(words, sentence):
    with pytest.raises(RequestError) as refused:
        asked(*words)
    assert str(refused.value) == sentence
