"""Model soups (arXiv 2203.05482): what tables call them, and which studies can have them."""

from __future__ import annotations

from typing import Any

from tlm.study.checks import known, unique

SOUP = "soup"
"""The arm that soups are in: it stands in tables behind the name of their architecture."""


def check_soups(study: Any, architectures: list[Any]) -> None:
    """ValueError if a study's `soups` are no architectures, or its pre-trainings are not fine-tuned several times."""
    known("soups", unique("soups", study.soups), architectures)
    if study.soups and (study.seeds != "crossed" or len(study.finetune_seeds) < 2 or max(study.corpus.sizes) == 0):
        raise ValueError(
            "soups: the mean is that of several fine-tunings of one pre-training; give a Ws above 0, seeds: crossed and "
            "two finetune_seeds or more"
        )
