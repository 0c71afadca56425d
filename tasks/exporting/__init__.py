"""A registered version as something that others load: a Hugging Face directory or a GGUF file, and whether it answers alike."""
