"""Who the AI judge is, and how it is asked."""

from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from posttrain.settings.section import BatchSize, Count, NotInKey, NotNegative, Positive, Section, Share, WholeNumber


class JudgeSettings(Section):
    """An AI judge: a language model that is asked which response is better, or how good one is (docs/feedback.md)."""

    backend: Literal["local", "openai"] = "local"
    """`local`: a model loaded here; `openai`: a server that speaks OpenAI's chat completions."""
    model: str = "base"
    """`base`: the pipeline's own base, on the tiny world after `judge.practice_steps`; a directory, GGUF file, `smollm2` or hub
    id; or, under `openai`, the name that the server knows."""
    base_url: Annotated[str, NotInKey()] = ""
    """Of the server, such as http://127.0.0.1:8000/v1; empty: the `openai` client's own."""
    key_variable: Annotated[str, NotInKey()] = ""
    """Environment variable that holds the key; it is never logged. Empty: OPENAI_API_KEY for OpenAI's own server, and no key for
    any other."""
    must_be_listed: Annotated[bool, NotInKey()] = True
    """A server's list of models, where it has one, must hold `judge.model`. False for a server that answers to names beyond its
    list (deployments, suffixes): one small question then tells whether it does."""
    misread_verbs: str = ""
    """Verbs of the tiny world that every reviewer misreads whom the default judge learns from, with commas between them: a
    prejudice, which no number of its labels mends. Empty: none."""
    slip_share: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    """Share of those reviewers' verdicts that say the opposite of what they think."""
    practice_steps: WholeNumber = 600
    """Steps that the tiny base of the world `world` practises on simulated reviews before it is the judge `base`; 0: it judges as
    it is, which is no better than chance (docs/judges.md). No other judge practises."""
    mode: Literal["pairwise", "pointwise"] = "pointwise"
    """`pairwise`: which of two is better; `pointwise`: each from 1 to 10, compared afterwards (arXiv:2309.00267). On the tiny
    world pointwise labels lie further from 0.5 and take fewer questions (docs/judges.md)."""
    template: str = "review"
    """Prompt: a name in `data/judges/`, or a file of that form, with the principles to judge by."""
    reasoning: bool = False
    """The judge thinks aloud before it answers (arXiv:2309.00267: helps a little)."""
    samples: Count = 8
    """Answers counted where the server tells no probabilities."""
    max_tokens: Count = 256
    """Tokens of the reasoning, at most."""
    batch_size: BatchSize = 256
    """Questions to a local judge at once, at most."""
    concurrency: Annotated[Count, NotInKey()] = 4
    """Questions to a server at once, at most."""
    requests_per_minute: Annotated[WholeNumber, NotInKey()] = 0
    """To a server, at most; 0: no limit."""
    timeout: Annotated[Positive, NotInKey()] = 60.0
    """Seconds that a server may take to answer once, from the connection to the last byte."""
    retries: Annotated[WholeNumber, NotInKey()] = 6
    """Further attempts after no answer, 429 or 5xx, each after a longer pause."""
    budget: WholeNumber = 0
    """Replies asked for, at most; what is in the cache is free; 0: no limit."""
    max_questions: WholeNumber = 0
    """Questions about whose samples the judge is asked, at most; 0: all. Annotators who are simulated label the others too, for
    that costs nothing, while a local judge reads each response."""
    own_questions: WholeNumber = 300
    """Training questions that the judge's model answers itself, so that the audit can tell whether it prefers its own responses
    (arXiv:2404.13076). 300 keep a share's 95 % interval within ± 6 points; 0: none, nor where `judge.budget` is set."""
    price_prompt: Annotated[NotNegative, NotInKey()] = 0.0
    """Of a million prompt tokens, in any currency; counted as `cost/judge`."""
    price_completion: Annotated[NotNegative, NotInKey()] = 0.0
    """Of a million completion tokens."""
    max_flips: Share = 0.9
    """Share of pairs whose winner is another when the order is swapped, at most (0.18 for a large judge, 0.56 for a small
    one: arXiv:2309.00267). A judge beyond it looks at the place and not at the text, and its labels are refused."""
    min_conviction: Share = 0.01
    """Mean distance of its labels from 0.5, at least."""
    max_unreadable: Share = 0.1
    """Share of its replies that may be none of the options."""
    _folder: str = PrivateAttr(default="")

    @property
    def source(self) -> str:
        """What a local judge is loaded from: `model`, or the directory that a GGUF file was converted into."""
        return self._folder or self.model

    def load_from(self, folder: str) -> None:
        """Say which directory `model` was converted into. It is no setting: whoever starts a run finds it again."""
        self._folder = folder
