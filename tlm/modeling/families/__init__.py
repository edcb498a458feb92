"""Families of models: one module each, which holds all that follows from `Architecture.kind`. No module imports torch."""
