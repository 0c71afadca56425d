"""What the processes of a stage load, once a pipeline: they are forks of a Python that has imported this module.

It may start no thread and use no device, for a fork has neither.
"""

import gc
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import peft  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer  # noqa: F401
    from trl import DPOTrainer, SFTTrainer  # noqa: F401

gc.freeze()  # else each fork's first collection copies every page
