"""Forms of an export."""

HF, GGUF = "hf", "gguf"
FORMATS = (HF, GGUF)
TYPES = ("f32", "f16", "bf16", "q8_0")
"""How a GGUF file keeps its matrices."""
