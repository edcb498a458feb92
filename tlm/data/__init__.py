"""Text and tokens: sources, tokenizers, samples, items, overlap, and what is done to a pre-training set."""
