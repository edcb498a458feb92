"""Hyperparameter search by dev accuracy: a space of overrides, trials, and what came of them. It sees no test item."""
