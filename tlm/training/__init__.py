"""Training and evaluation of tiny BERTs: masking, batching, one optimisation loop, two objectives."""
