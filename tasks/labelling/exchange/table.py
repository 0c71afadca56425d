"""The forms in which labels are exchanged, a row each: what EXPORT and IMPORT may name."""

from posttrain.errors import RequestError, did_you_mean
from tasks.labelling.exchange import argilla, jsonl, label_studio, mlflow
from tasks.labelling.exchange.interface import Form

FORMS: dict[str, Form] = {form.name: form for form in (jsonl.FORM, label_studio.FORM, mlflow.FORM, argilla.FORM)}


def form_of(name: str, *, word: str) -> Form:
    """Return the form of a name.

    Args:
        name: that somebody typed.
        word: behind which it stood, for the error.

    Raises:
        RequestError: there is none of that name.
    """
    form = FORMS.get(name.lower().replace("_", "-"))
    if form is None:
        raise RequestError(f"{word} must be one of {', '.join(FORMS)}, got {name}{did_you_mean(name, FORMS)}")
    return form
