"""From one imported record, and the side of the split it fell on, to the files of its dataset.

    kind             training side                                       held-out side
    text             corpus                                              –
    demonstration    demonstrations, questions, corpus                   held_out**
    question         questions, corpus                                   held_out
    preference       preferences, demonstrations*, questions, corpus     held_out**, held_out_preferences
    rating, ranking  ratings or rankings, questions, corpus              held_out

* the chosen completion, where the dataset brings no demonstrations of its own and does not score it lower than the other.
** with what SFT would have imitated as the question's `reference`: the demonstration, or the chosen completion.
"""

from collections.abc import Collection, Iterator

from posttrain.prompts import plain
from posttrain.records import KIND_OF_ROLE, Demonstration, Preference, Prompt, Question, Ranking, Rating, Record, Text

ROLES_OF_KIND: dict[str, tuple[str, ...]] = {
    "text": ("corpus",),
    "demonstration": ("corpus", "demonstrations", "questions", "held_out"),
    "question": ("corpus", "questions", "held_out"),
    "preference": ("corpus", "demonstrations", "questions", "preferences", "held_out", "held_out_preferences"),
    "rating": ("corpus", "questions", "ratings", "held_out"),
    "ranking": ("corpus", "questions", "rankings", "held_out"),
}
"""Files that a dataset with a record of this kind has."""


def roles_of(kinds: Collection[str]) -> tuple[str, ...]:
    """Return the roles that a dataset of these kinds has, in the order of `KIND_OF_ROLE`."""
    wanted = {role for kind in kinds for role in ROLES_OF_KIND[kind]}
    return tuple(role for role in KIND_OF_ROLE if role in wanted)


def in_roles(record: Record, *, is_held_out: bool, is_asked: bool, has_demonstrations: bool) -> Iterator[tuple[str, Record]]:
    """Yield what becomes of a record, each with its role.

    Args:
        record: of any kind.
        is_held_out: its family is for evaluation.
        is_asked: its prompt becomes a question; False where an earlier record has the same prompt.
        has_demonstrations: the dataset brings demonstrations, so preferences need not stand in for them.
    """
    if isinstance(record, Text):
        if not is_held_out:
            yield "corpus", record
        return
    if is_asked:
        question = _question(record)
        if is_held_out:
            yield "held_out", _with_reference(question, record, has_demonstrations=has_demonstrations)
        else:
            yield "questions", question
    if isinstance(record, Preference):
        yield ("held_out_preferences" if is_held_out else "preferences"), record
    if is_held_out:
        return
    if isinstance(record, Preference) and not has_demonstrations and not _is_reversed(record):
        yield "demonstrations", Demonstration(id=record.id, family=record.family, prompt=record.prompt, completion=record.chosen)
    for role, kind in (("demonstrations", Demonstration), ("ratings", Rating), ("rankings", Ranking)):
        if isinstance(record, kind):
            yield role, record
    yield "corpus", Text(id=record.id, family=record.family, text=_document(record))


def prompt_of(record: Record) -> Prompt:
    """Return a record's prompt; a text is its own."""
    return record.text if isinstance(record, Text) else record.prompt  # type: ignore[attr-defined]


def _question(record: Record) -> Question:
    if isinstance(record, Question):
        return record
    answers = (record.answer,) if isinstance(record, Demonstration) and record.answer is not None else ()
    return Question(id=record.id, family=record.family, prompt=prompt_of(record), answers=answers)


def _with_reference(question: Question, record: Record, *, has_demonstrations: bool) -> Question:
    """Return the question with the completion that SFT would have imitated, had it not been held out."""
    if isinstance(record, Demonstration):
        return question.model_copy(update={"reference": record.completion})
    if isinstance(record, Preference) and not has_demonstrations and not _is_reversed(record):
        return question.model_copy(update={"reference": record.chosen})
    return question


def _is_reversed(record: Preference) -> bool:
    """Return whether the scores of a pair say the opposite of its choice."""
    return record.margin is not None and record.margin < 0


def _document(record: Record) -> str:
    """Return the prompt with the completion that is best known, as one text; a question's is its first answer.

    A completion that the dataset calls bad is left out: what stands in the corpus is imitated.
    """
    prompt, completion = prompt_of(record), ""
    if isinstance(record, Demonstration) or (isinstance(record, Rating) and 2 * record.score > record.low + record.high):
        completion = record.completion
    elif isinstance(record, Preference) and not _is_reversed(record):
        completion = record.chosen
    elif isinstance(record, Question) and record.answers:
        completion = record.answers[0]
    elif isinstance(record, Ranking) and record.completions:
        completion = record.completions[record.ranks.index(min(record.ranks))]
    return plain(prompt) + ("" if isinstance(prompt, str) else " ") + completion
