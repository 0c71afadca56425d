"""The methods: a row each. Help, checks, plans, budgets, reports and docs read this table; nothing else names a method.

To add one: its settings in `posttrain/settings/<trainer>.py`, its training in `tasks/training/<trainer>.py` (a function `train`),
and a row here. `make help` reads this file before anything is installed: it needs Python 3.9 and its own library alone.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Signal:
    """What a method learns from after its start.

    Attributes:
        says: what it is, in words.
        gives: which arguments the trainer gets: `labels`, `reward`, `samples`, `demonstrations`, or "" for no further training.
        stages: that make it, between the start and the trainer.
        reward: where rewards come from: `named` by `ppo.reward`, `grader` (named, and no other kind), `reward_model` (the
            pipeline's own) or `judge`; "" where there is none.
        labels_by: who must give the labels; "" for anybody that `labels.source` may name.
        needs: roles of the dataset that it cannot do without.
    """

    says: str
    gives: str = ""
    stages: tuple[str, ...] = ()
    reward: str = ""
    labels_by: str = ""
    needs: tuple[str, ...] = ()


DEMONSTRATIONS = Signal("demonstrations")
SHOTS = Signal("demonstrations in its prompt: nothing is trained", gives="demonstrations", needs=("demonstrations",))
PREFERENCES = Signal("preferences, straight into the loss", gives="labels", stages=("sample", "label"))
VERDICTS = Signal("which single responses win their pairs and which lose", gives="labels", stages=("sample", "label"))
GRADER = Signal("a grader: a program checks the final answer", gives="reward", reward="grader", needs=("questions",))
REWARD = Signal("any reward that ppo.reward names", gives="reward", reward="named", needs=("questions",))
REWARD_MODEL = Signal(
    "a reward model of preferences", "reward", ("sample", "label", "reward_model"), reward="reward_model", needs=("questions",)
)
AI_REWARD_MODEL = Signal(
    "a reward model of an AI judge's preferences",
    "reward",
    ("sample", "label", "reward_model"),
    reward="reward_model",
    labels_by="judge",
    needs=("questions",),
)
OWN_SAMPLES = Signal("its own right samples", gives="samples", stages=("sample",), needs=("questions",))
AI_JUDGE = Signal(
    "an AI judge, which scores each response", gives="reward", reward="judge", labels_by="judge", needs=("questions",)
)


@dataclass(frozen=True)
class Method:
    """One way of post-training.

    Attributes:
        name: what METHOD= takes.
        title: as figures and tables call it.
        learns_from: its signal.
        trainer: file below `tasks/training/`, which is also its stage and the section of its settings; "" where SFT is all.
        starts_from: the model that the trainer starts from and that the result is compared with: `sft` or `base`.
        is_from_base: the trainer starts from the base all the same; `starts_from` made what it learns from, and is the baseline.
        loop: section of the loop that the trainer runs in, given to it beside its own; "" where there is none.
        adjusts: section whose settings replace those of the trainer that have the same name; "" for none.
        suits: the situation that it suits, in a few words.
    """

    name: str
    title: str
    learns_from: Signal
    trainer: str = ""
    starts_from: str = "sft"
    is_from_base: bool = False
    loop: str = ""
    adjusts: str = ""
    suits: str = ""

    @property
    def stages(self) -> tuple[str, ...]:
        """Return its training stages, after tokenizer, validate and base, before evaluation."""
        start = ("sft",) if self.starts_from == "sft" else ()
        return (*start, *self.learns_from.stages, *((self.trainer,) if self.trainer else ()))

    @property
    def own_stage(self) -> str:
        """Return the stage that makes its own model: its trainer, or SFT where that is all."""
        return self.trainer or self.starts_from

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models that it makes, in order, from the base to its own."""
        return tuple(dict.fromkeys(("base", self.starts_from, self.name)))

    @property
    def is_labelled(self) -> bool:
        """Return whether somebody labels samples for it."""
        return "label" in self.learns_from.stages

    @property
    def is_sampled(self) -> bool:
        """Return whether samples are drawn for it that nobody labels."""
        return "sample" in self.learns_from.stages and not self.is_labelled

    @property
    def policies(self) -> tuple[str, ...]:
        """Return its models that were trained from its baseline, or are it: for them log p - log q is an implicit reward."""
        is_other = self.is_from_base or self.is_prompted
        return tuple(name for name in self.models if name != "base" and not (is_other and name == self.name))

    @property
    def is_prompted(self) -> bool:
        """Return whether its model is the one that it starts from, behind a text of its own: nothing is trained."""
        return self.learns_from.gives == "demonstrations"

    @property
    def is_rewarded(self) -> bool:
        """Return whether it learns from rewards of its own responses, which the audit then holds against gold."""
        return self.learns_from.gives == "reward"

    @property
    def has_critic(self) -> bool:
        """Return whether a critic is trained beside its policy: PPO's estimator has one, those that run in its loop have none."""
        return self.is_rewarded and not self.loop


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("sft", "SFT", DEMONSTRATIONS, suits="demonstrations are many and good, the task is narrow"),
        Method("few_shot", "few-shot", SHOTS, trainer="few_shot", starts_from="base", suits="first of all: nothing is trained"),
        Method("reft", "ReFT", GRADER, trainer="ppo", suits="answers can be checked, demonstrations are few"),
        Method("rlhf", "RLHF", REWARD_MODEL, trainer="ppo", adjusts="rlhf", suits="quality is subjective, preferences are many"),
        Method("rlaif", "RLAIF", AI_REWARD_MODEL, trainer="ppo", adjusts="rlhf", suits="labels by people cost too much"),
        Method("drlaif", "RLAIF, direct", AI_JUDGE, trainer="ppo", adjusts="rlhf", suits="as RLAIF, without a reward model"),
        Method("dpo", "DPO", PREFERENCES, trainer="dpo", suits="preferences are many, the set-up must be simple"),
        Method("kto", "KTO", VERDICTS, trainer="kto", suits="single verdicts (thumbs) and no pairs"),
        Method("grpo", "GRPO", REWARD, trainer="grpo", loop="ppo", suits="as ReFT, with less memory: no critic"),
        Method("rloo", "RLOO", REWARD, trainer="rloo", loop="ppo", suits="as GRPO, with a leave-one-out baseline"),
        Method("self_training", "self-training", OWN_SAMPLES, trainer="self_training", is_from_base=True, suits="before any RL"),
        Method("ppo", "PPO from base", REWARD, trainer="ppo", starts_from="base", suits="a reward and no demonstrations"),
    )
}
"""By name, in the order in which tables have them."""
TRAINERS: tuple[str, ...] = tuple(dict.fromkeys(method.trainer for method in METHODS.values() if method.trainer))
"""Every stage that trains a method's own model, but SFT."""


def named_methods() -> str:
    """Return the names of the methods as a sentence has them: "sft, reft or dpo"."""
    *others, last = METHODS
    return f"{', '.join(others)} or {last}"


def methods_table() -> str:
    """Return the table of the methods as Markdown, as docs/methods.md has it."""
    rows = (
        f"| `{each.name}` | {' → '.join(each.stages) or '–'} | {each.learns_from.says} | {each.suits} |"
        for each in METHODS.values()
    )
    return "\n".join(["| `METHOD` | stages | learns from | when to use |", "|---|---|---|---|", *rows])
