"""Labels as Label Studio keeps them: a task a pair, an annotation a label, chosen with its `<Pairwise>` tag.

A task's `data` holds what is shown; an annotation says who chose, how long it took and which side. What only our form knows
stands in the region's `meta`, which Label Studio keeps as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.labelling.exchange.interface import (
    EQUAL,
    FIRST,
    SECOND,
    Bad,
    Draft,
    Found,
    Passed,
    ShownPair,
    choice_of,
    chosen,
    digest_of,
    listed,
    rows_of,
    shortened,
    shown_in,
    shown_prompt,
)

PAIRWISE, CHOICES = "pw", "equal"
"""Names of the two controls."""
SIDES = {FIRST: "left", SECOND: "right"}
OF_SIDE = {side: choice for choice, side in SIDES.items()}
CONFIG = f"""\
<View>
  <Header value="Which response is better?"/>
  <Text name="prompt" value="$prompt"/>
  <Pairwise name="{PAIRWISE}" toName="first,second"/>
  <View style="display: flex; gap: 1em;">
    <View style="flex: 50%"><Text name="first" value="$first"/></View>
    <View style="flex: 50%"><Text name="second" value="$second"/></View>
  </View>
  <Choices name="{CHOICES}" toName="prompt" choice="single">
    <Choice value="{EQUAL}"/>
  </Choices>
</View>
"""
"""The labelling configuration of a project that the tasks belong to."""


def _task(pair: ShownPair) -> dict[str, Any]:
    data = {**pair.fields, "prompt": shown_prompt(pair.fields["prompt"])}
    return {"data": data, "annotations": [_annotation(pair, own) for own in pair.labels]}


def _annotation(pair: ShownPair, own: Mapping[str, Any]) -> dict[str, Any]:
    choice = choice_of(own["preference"])
    region: dict[str, Any] = {"id": digest_of([pair.name, own["id"]])[:10], "meta": {"label": dict(own)}, "origin": "manual"}
    if choice == EQUAL:
        region |= {"type": "choices", "from_name": CHOICES, "to_name": "prompt", "value": {"choices": [EQUAL]}}
    else:  # the tag's own name twice: so does the editor write it
        region |= {"type": "pairwise", "from_name": PAIRWISE, "to_name": PAIRWISE, "value": {"selected": SIDES[choice]}}
    told: dict[str, Any] = {"result": [region], "was_cancelled": False, "ground_truth": False}
    if "@" in own["annotator"]:  # Label Studio knows people by their addresses, and refuses what it does not know
        told["completed_by"] = {"email": own["annotator"]}
    if "seconds" in own:
        told["lead_time"] = own["seconds"]
    if "at" in own:
        told["created_at"] = own["at"]
    return told


# --- reading ------------------------------------------------------------------------------------------------------------


def read(text: str) -> Iterator[Found]:
    """Yield what each annotation of each task says. Predictions are a model's, and are passed over."""
    for number, task in enumerate(rows_of(text, "a list of tasks as Label Studio exports it (JSON)"), 1):
        where = f"task {number}"
        data = task.get("data") if isinstance(task, dict) else None
        annotations = task.get("annotations", task.get("completions")) if isinstance(task, dict) else None
        if isinstance(task, dict) and data is None and "annotation_id" in task:
            yield Bad(where, "this is Label Studio's export JSON-MIN, which does not say what was shown. Export as JSON")
        elif not isinstance(data, dict):
            yield Bad(where, f"a task is an object with data, got {shortened(task)}. Export as JSON from Label Studio")
        elif not isinstance(annotations, list):
            yield Bad(where, "the task has no list of annotations. Export as JSON from Label Studio")
        else:
            if not annotations:
                yield Passed(where, "not labelled yet")
            for place, annotation in enumerate(annotations, 1):
                yield _read_annotation(f"{where}, annotation {place}", task, data, annotation)
            if task.get("predictions"):
                yield Passed(where, "predictions of a model")


def _read_annotation(where: str, task: Mapping[str, Any], data: Mapping[str, Any], annotation: Any) -> Found:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result", []), list):
        return Bad(where, f"an annotation is an object with a list result, got {shortened(annotation)}. Drop it")
    if annotation.get("was_cancelled") or annotation.get("skipped"):
        return Passed(where, "skipped by its annotator")
    if not all(isinstance(region, dict) for region in annotation.get("result", [])):
        return Bad(where, "each region of result is an object. Drop the annotation")
    said, own, problem = _choice(annotation.get("result", []))
    if problem:
        return Bad(where, problem)
    fields = shown_in(data) | chosen(said or EQUAL, own)
    # what Label Studio itself knows counts where the annotation is not one that we wrote
    fields.setdefault("annotator", _who(annotation.get("completed_by")))
    if annotation.get("lead_time") is not None:
        fields.setdefault("seconds", annotation["lead_time"])
    if annotation.get("created_at"):
        fields.setdefault("at", annotation["created_at"])
    fields.setdefault("id", f"label-studio-{_name_of(task, annotation)}")
    return Draft(where, fields, () if said else ("without a choice, which is taken as equal",))


def _choice(regions: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any], str]:
    """Return what the regions of an annotation choose ("" for nothing), our fields beside it, and what is wrong ("" for none)."""
    found: dict[str, dict[str, Any]] = {}
    for region in regions:
        value, meta = region.get("value"), region.get("meta")
        beside = meta.get("label") if isinstance(meta, dict) else None
        own = beside if isinstance(beside, dict) else {}
        if region.get("type") == "pairwise":
            selected = value.get("selected") if isinstance(value, dict) else None
            if not isinstance(selected, str) or selected not in OF_SIDE:
                return "", {}, f"selected must be left or right, got {shortened(selected)}. Correct or drop the annotation"
            found[OF_SIDE[selected]] = own
        elif region.get("type") == "choices":
            choices = value.get("choices") if isinstance(value, dict) else None
            if choices != [EQUAL]:
                return "", {}, f'choices must be ["{EQUAL}"], got {shortened(choices)}. Correct or drop the annotation'
            found[EQUAL] = own
    if len(found) > 1:
        return "", {}, f"it says {' and '.join(sorted(found))} at once. Keep one of them, or drop the annotation"
    return (*next(iter(found.items())), "") if found else ("", {}, "")


def _who(completed_by: Any) -> str:
    """Return an annotator's name: the address, else first and last name, else the number."""
    if isinstance(completed_by, dict):
        names = " ".join(str(completed_by[name]) for name in ("first_name", "last_name") if completed_by.get(name))
        return str(completed_by.get("email") or names or completed_by.get("username") or completed_by.get("id") or "")
    return "" if completed_by is None else str(completed_by)


def _name_of(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> str:
    """Return what an annotation is called, in every later export too."""
    named = annotation.get("unique_id") or annotation.get("id")
    return str(named) if named is not None else digest_of([task.get("data"), annotation])


FORM = listed(
    _task,
    name="label-studio",
    says="tasks of Label Studio with <Pairwise>, and the project's configuration beside them",
    loses="nothing, as long as Label Studio keeps a region as it is; of an annotation that was made anew there: group, margin, "
    "prompt_version, selection",
    read=read,
    beside={".config.xml": CONFIG},
)
