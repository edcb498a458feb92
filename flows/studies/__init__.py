"""The named studies, by name: composition only. A new one is a function with `@study` in one of these modules."""

from __future__ import annotations

from flows.studies import introductory, open_questions, paper, recipe, smaller, stlm, stlm_bytes, stlm_training
from flows.studies.registry import STUDIES, NamedStudy

__all__ = [
    "STUDIES",
    "NamedStudy",
    "introductory",
    "open_questions",
    "paper",
    "recipe",
    "smaller",
    "stlm",
    "stlm_bytes",
    "stlm_training",
]
