"""Training and evaluation of tiny BERTs and GPT-2s: masking, batching, one optimisation loop, two objectives."""
