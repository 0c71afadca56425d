"""What people are asked to label, how much of it, and where the page is served (`make label`)."""

from typing import Annotated, Literal

from pydantic import Field

from posttrain.settings.section import Count, Section, Share
from posttrain.settings.servers import Port


class LabellingSettings(Section):
    """Labelling by people (`make label`): which samples a batch shows, how, to how many, and the page that shows them
    (docs/labelling.md). A batch keeps those of the moment when it was made. None of it enters a stage's key."""

    kind: Literal["pair", "ranking", "rating"] = "pair"
    """What an annotator says: `pair`, which of two responses is better; `ranking`, the order of several, of which
    K (K - 1) / 2 labels are made (InstructGPT, arXiv:2203.02155, section 3.4); `rating`, how good one response is, from 1 to 5:
    two ratings of a question by one annotator are a label where they differ."""
    responses: Annotated[int, Field(ge=3, le=9)] = 4
    """Responses to a question that are ranked, or rated one after the other; fewer where samples are alike. InstructGPT
    (arXiv:2203.02155) ranked 4 to 9."""
    selection: Literal["random", "uncertain", "disagreement", "spread"] = "random"
    """Which samples are shown: `random`; `uncertain`, where the reward model of the last labels is least sure
    (arXiv:cmp-lg/9407020); `disagreement`, where the judge is furthest from what people or that reward model say; `spread`,
    where the members of that reward model differ most (`reward_model.ensemble`; arXiv:1706.03741, section 2.2.4). A rule may be
    worse than chance: `python -m benchmarks.active_labels` measures it."""
    random_share: Share = 0.2
    """Share of a batch that is drawn at random whatever `selection` says. What is chosen by a rule is no fair sample of the
    questions (arXiv:2101.11665), so agreement and accuracy are estimated on this share alone; at 0.2, a batch of 200 gives 40."""
    repeat_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """Share of a batch that an annotator is shown a second time, later and in the other order: how far he agrees with himself."""
    known_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """Share of a batch whose right order the answers of the dataset tell; nobody sees which these are. It shows who reads and who
    clicks. Of pairs alone; fewer where fewer are known, none for a dataset without answers."""
    show_judge: bool = False
    """Shows what the judge (`judge.*`) says of a pair, after the annotator's own answer and never before: an opinion that is seen
    first becomes one's own. It is for practice; agreement between people and judge is worth less afterwards."""
    per_item: Annotated[int, Field(ge=1, le=9)] = 1
    """Annotators of each item. From 2 on it is known how far they agree, at twice the work: arXiv:2203.02155 had one annotator
    for most of its labels."""
    batch: Count = 200
    """Items of a batch: about an hour of one annotator at 18 seconds a pair."""
    lease_seconds: Annotated[int, Field(ge=10, le=86_400)] = 900
    """Seconds for which an item that somebody was shown is kept for him; then another annotator may get it."""
    link_days: Annotated[int, Field(ge=1, le=365)] = 14
    """Days for which a personal link opens the page."""
    host: str = "127.0.0.1"
    """The address that the page listens on. With any but this machine's own (127.0.0.1, localhost), whoever can reach the machine
    and has a link gets in, and what he sends can be read on the way: put it behind a proxy with https."""
    site: str = ""
    """How annotators reach the page, where that is by another name than `host` and the port, as behind a proxy:
    https://label.example.org. Links begin with it, and a request that comes by any other name is refused."""
    port: Port = 8010
    """Of the page; `make label PORT=8011` says the same. Links hold it, so it is never changed by itself."""
