"""Pre-training objectives: one module each, named in `tlm.study.config.Objective`. Torch is imported when they train."""
