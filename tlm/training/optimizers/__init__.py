"""Optimizers: one module each, named in `tlm.study.config.Optimizer`. No module imports torch before one is built."""
