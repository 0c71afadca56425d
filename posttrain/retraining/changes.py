"""What is another between what a model was made of and what it would be made of now: data, settings, code, other inputs.

Whether anything is another, the keys of the stages decide: a key is a digest of all that decides a stage's result
(docs/caching.md). What it is, is read from what entered the keys. A stage that is another only because one before it is, tells
nothing: it is not named.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

TOLD = 3
"""Of each kind, so many are named in a sentence; the others are counted."""
DATA = ("data", "people")
"""Inputs of stages that are the dataset's: its rows, and what people said of responses to its questions."""
OWN_NAMES = ("seed", "device")
"""Of the values in a key that belong to no section, those that somebody chose; the others follow from a setting."""


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline, and what entered its key.

    Attributes:
        name: of the stage.
        key: a digest of all that decides its result.
        settings: by dotted name; None where nothing is left of them.
        inputs: digest of what it reads, by the name of its argument.
        digest: of its result; "" where there is none.
    """

    name: str
    key: str
    settings: Mapping[str, Any] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True)
class Made:
    """What a model was made of, or would be.

    Attributes:
        method: of the pipeline; "" where that is not known.
        data_md5: version of the data; "" likewise.
        files: md5 of each role's file.
        stages: of the pipeline, in order.
        versions: of the libraries that compute.
        commit: of the working tree; "" where it is not known.
    """

    method: str
    data_md5: str
    files: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""

    @property
    def keys(self) -> frozenset[tuple[str, str]]:
        """Name and key of each stage."""
        return frozenset((stage.name, stage.key) for stage in self.stages)


@dataclass(frozen=True)
class Changes:
    """What is another.

    Attributes:
        stages: those whose keys are others, in order; () where nothing that matters has changed.
        method: before and now, where it is another one.
        data: roles whose files are others; ("",) where only the version of the whole is known.
        versions_of_data: before and now, shortened; () where they are equal.
        settings: name, before, now.
        code: stages whose own code is another.
        libraries: name, before, now.
        inputs: "stage: input" of what else is another, such as the base's weights, a reward or a file of labels.
    """

    stages: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    versions_of_data: tuple[str, ...] = ()
    settings: tuple[tuple[str, Any, Any], ...] = ()
    code: tuple[str, ...] = ()
    libraries: tuple[tuple[str, str, str], ...] = ()
    inputs: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything that matters has changed."""
        return bool(self.stages)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What has changed, of "method", "data", "settings", "code", "libraries" and "inputs"."""
        names = ("method", "data", "settings", "code", "libraries", "inputs")
        return tuple(name for name in names if getattr(self, name))

    @property
    def says(self) -> str:
        """What has changed, as a phrase: "data (questions; 1a2b → 3c4d), settings (dpo.beta 0.1 → 0.2)"."""
        if not self.stages:
            return "nothing that matters has changed"
        told = []
        if self.method:
            told.append(f"the method ({' → '.join(self.method)})")
        if self.data:
            roles, versions = _listed([role for role in self.data if role]), " → ".join(self.versions_of_data)
            told.append(f"data ({'; '.join(part for part in (roles, versions) if part)})")
        if self.settings:
            told.append(f"settings ({_listed([f'{name} {_text(then)} → {_text(now)}' for name, then, now in self.settings])})")
        if self.code:
            told.append(f"the code of {_listed(self.code)}")
        if self.libraries:
            told.append(f"libraries ({_listed([f'{name} {then} → {now}' for name, then, now in self.libraries])})")
        if self.inputs:
            told.append(f"other inputs ({_listed(self.inputs)})")
        return ", ".join(told) or "nothing that can be named"

    def as_record(self) -> dict[str, Any]:
        """Return plain JSON (docs/retraining.md has every field)."""
        return {
            "says": self.says,
            "kinds": list(self.kinds),
            "stages": list(self.stages),
            "method": list(self.method),
            "data": [role for role in self.data if role],
            "settings": {name: [_text(then), _text(now)] for name, then, now in self.settings},
            "code": list(self.code),
            "libraries": {name: [then, now] for name, then, now in self.libraries},
            "inputs": list(self.inputs),
        }


def changes(then: Made, now: Made, *, recoded: Collection[str] = ()) -> Changes:
    """Return what is another since a model was made.

    Args:
        then: what it was made of.
        now: what it would be made of; a stage of `then` that is not needed any more does not count.
        recoded: stages whose own code is another, as their keys show.
    """
    changed = tuple(stage.name for stage in now.stages if (stage.name, stage.key) not in then.keys)
    if not changed:
        return Changes()
    before = {stage.name: stage for stage in then.stages}
    both = [(before[stage.name], stage) for stage in now.stages if stage.name in before]
    is_one_method = len({then.method, now.method} - {""}) == 1
    has_other_data = then.data_md5 not in ("", now.data_md5)
    return Changes(
        stages=changed,
        method=() if is_one_method else (then.method, now.method),
        data=_roles(then.files, now.files) if has_other_data else (),
        versions_of_data=(then.data_md5[:8], now.data_md5[:8]) if has_other_data else (),
        settings=_settings(both, is_one_method=is_one_method),
        code=tuple(name for name in changed if name in recoded),
        libraries=tuple(
            (name, then.versions[name], version)
            for name, version in sorted(now.versions.items())
            if then.versions.get(name, version) != version
        ),
        inputs=_inputs(both, now.stages, changed=changed),
    )


def fingerprint(now: Made, *, champion: str | None, gate: Mapping[str, Any]) -> str:
    """Return a digest of all that decides how a retraining ends: its stages, the champion, and the settings of the gate."""
    parts = [sorted(now.keys), champion or "", dict(gate)]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _roles(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return the roles whose files are others; ("",) where the files of before are not known."""
    if not then:
        return ("",)
    return tuple(role for role in sorted({*then, *now}) if then.get(role) != now.get(role)) or ("",)


def _settings(both: Sequence[tuple[Stage, Stage]], *, is_one_method: bool) -> tuple[tuple[str, Any, Any], ...]:
    """Return the settings that differ; of another method, only those that both have."""
    found: dict[str, tuple[Any, Any]] = {}
    for old, new in both:
        if old.settings is None or new.settings is None:
            continue
        names = old.settings.keys() | new.settings.keys() if is_one_method else old.settings.keys() & new.settings.keys()
        for name in sorted(names):
            then, now = old.settings.get(name), new.settings.get(name)
            if now == "auto" and _text(then).isdigit():  # a number as soon as the gate has seen the data
                continue
            if ("." in name or name in OWN_NAMES) and _text(then) != _text(now):
                found.setdefault(name, (then, now))
    return tuple((name, then, now) for name, (then, now) in found.items())


def _inputs(both: Sequence[tuple[Stage, Stage]], stages: Sequence[Stage], *, changed: Collection[str]) -> tuple[str, ...]:
    """Return what differs and is no result of a stage: that which came from outside, but the data."""
    results = {text for stage in stages for text in (stage.digest, stage.key) if text}
    return tuple(
        f"{new.name}: {name}"
        for old, new in both
        if new.name in changed and old.settings is not None
        for name, digest in sorted(new.inputs.items())
        if name not in DATA and name in old.inputs and old.inputs[name] != digest and digest not in results
    )


def _text(value: Any) -> str:
    """Return a value as it stands in a record of JSON, so that a tuple and a list are one."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - TOLD
    return ", ".join([*parts[:TOLD], *([f"{more} more"] if more > 0 else [])])
