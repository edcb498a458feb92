"""The paper's scale on one GPU, in minutes: `python -m benchmarks.gpu.prepare` here, `python -m benchmarks.gpu` there."""
