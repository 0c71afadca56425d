"""What the data are: the default world, the split of imported records, which dataset, and the gate."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import Count, Section, Share, WholeNumber


class WorldSettings(Section):
    """The tiny language that the offline default is made of. Changed in `params.yaml` only, since DVC versions what it makes."""

    seed: WholeNumber = 0
    """Seed of every document and problem (independent of the pipeline's `seed`: data stay fixed while training varies)."""
    corpus_documents: Count = 30_000
    """Documents the base is pretrained on."""
    careful_share: Share = 0.25
    """Share of authors who read every verb right (mixture B, docs/decisions/0003-world.md)."""
    drill_share: Share = 0.25
    """Share of the corpus that is plain arithmetic."""
    review_share: Share = 0.10
    """Share of the corpus that reviews a solution, which teaches the base the words that its judge is asked in."""
    demonstrations: Count = 64
    """Careful demonstrations for SFT."""
    questions: Count = 2_000
    """Questions with answers but without solutions; half of them are sampled for, half are PPO's (`sample.question_share`)."""
    held_out: Count = 1_000
    """Held-out questions: 1,000 keep a 95 % interval within ± 3.1 points."""


class SplitSettings(Section):
    """How imported records are split. Changed in `params.yaml` only, since DVC versions the result."""

    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the families that is held out."""
    max_held_out: Count = 2_000
    """Held-out records at most: beyond it intervals hardly narrow while evaluation gets dearer."""
    near_duplicate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Jaccard similarity of word 3-grams from which two prompts belong to one family (MinHash; Broder 1997)."""
    seed: WholeNumber = 0
    """Seed of the choice of families."""


class PreparedSettings(Section):
    """What the stages that DVC runs read of `params.yaml`, and nothing beside it: another setting does not repeat them."""

    world: WorldSettings = WorldSettings()
    split: SplitSettings = SplitSettings()


class DataSettings(Section):
    """Which dataset."""

    name: str = Field(default="world", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Folder below `data/`: `world`, or a name given to `make import`."""


class ValidationSettings(Section):
    """When the data gate closes."""

    max_critical_share: Share = 0.01
    """Share of a file's rows with a critical finding above which the run stops; below it they are quarantined."""
    min_characters: Count = 1
    """Characters that a prompt or completion has at least, white space not counted."""
    max_label_share: Share = 0.9
    """Share of one answer among all above which a warning says that the labels are out of balance."""
