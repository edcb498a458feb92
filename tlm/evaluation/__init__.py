"""What fine-tuned models are measured by: committees, baselines, latency."""
