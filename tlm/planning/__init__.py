"""From a study to its steps, before anything runs: the plan, its checks, and why it differs from a run."""
