"""Self-training: supervised fine-tuning on the SFT model's own right samples."""

from posttrain.settings.section import Count, Positive
from posttrain.settings.sft import SFTSettings


class SelfTrainingSettings(SFTSettings):
    """Fine-tuning of the base on right samples of the SFT model: rejection-sampling fine-tuning (RFT, arXiv:2308.01825), which
    STaR does in rounds (arXiv:2203.14465). The samples are those of `sample.*`: of the questions that preference methods label,
    and of as many as PPO asks while `sample.question_share` is 0.5 (where a dataset brings labels of its own, PPO asks all). They
    are drawn once, where PPO draws new ones in every update; `cost/generated_tokens` tells how many those are. Right is what the
    grader of final answers calls right."""

    per_question: Count = 4
    """Samples of a question that are learnt from, at most: right, finished, and each text once. Of more, a draw by seed and
    question decides (the paper keeps all of 100 samples that differ in their equations)."""
    with_demonstrations: bool = True
    """Learn from the demonstrations as well, as the paper does."""
    epochs: Positive = 3.0
    """Passes over samples and demonstrations (3 in the paper)."""
    batch_size: Count = 16
    """Samples and demonstrations a step, over gradient accumulation and devices."""
