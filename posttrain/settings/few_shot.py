"""Few-shot prompting: demonstrations before the question, no training."""

from posttrain.settings.section import Count, Section


class FewShotSettings(Section):
    """Prompting the base with demonstrations before each question; nothing is trained (GPT-3, arXiv:2005.14165, section 2). It is
    compared with the base, as SFT's gain is, so that both say what demonstrations are worth: in the prompt, or in the weights."""

    shots: Count = 4
    """Demonstrations before each question, drawn by seed, the same for all questions; fewer where no more fit into
    `model.context` beside the longest prompt and `evaluate.max_new_tokens`, which the report then says. 10 to 100 in the paper,
    whose models have contexts of 2,048 tokens."""
