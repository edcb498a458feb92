"""ARC-easy, HellaSwag and WinoGrande, from JSON lines with the fields of their public releases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tlm.data.benchmarks.item import Item, Located, lines_of
from tlm.errors import UserError
from tlm.study.likelihood import ArcEasy, HellaSwag, WinoGrande


def question(text: str) -> str:
    """What comes before an answer."""
    return f"Question: {text.strip()}\nAnswer:"


def read_arc(benchmark: ArcEasy, files: Sequence[tuple[Path, str]]) -> list[Located]:
    """`Question: …`, `Answer:`, and each choice."""
    items = []
    for row in lines_of(files):
        choices = row.object("choices")
        texts, labels, key = choices.texts("text"), choices.texts("label"), row.text("answerKey")
        if len(texts) != len(labels) or labels.count(key) != 1:
            raise UserError(
                f"{row.where}: the answer {key!r} is not one of the labels {list(labels)} of {len(texts)} choices.",
                "Correct it.",
            )
        items.append((row.where, _item(row.name("id"), question(row.text("question")), texts, labels.index(key))))
    return items


def read_hellaswag(benchmark: HellaSwag, files: Sequence[tuple[Path, str]]) -> list[Located]:
    """The activity, the context, and each ending. Texts are taken as they are: public copies have them cleaned."""
    return [
        (
            row.where,
            _item(
                row.name("ind"),
                f"{row.text('activity_label')}: {row.text('ctx')}",
                row.texts("endings"),
                row.index("label"),
            ),
        )
        for row in lines_of(files)
    ]


def read_winogrande(benchmark: WinoGrande, files: Sequence[tuple[Path, str]]) -> list[Located]:
    """Both options are what follows the blank; they differ in what comes before it."""
    items = []
    for row in lines_of(files):
        sentence = row.text("sentence")
        before, blank, after = sentence.partition("_")
        if not blank or "_" in after:
            raise UserError(f"{row.where}: {sentence.count('_')} blanks (_) in the sentence, not one.", "Correct it.")
        prefixes = tuple(before + row.text(name) for name in ("option1", "option2"))
        gold = row.index("answer") - 1  # counted from 1 in the files
        items.append((row.where, Item(row.name("qID"), prefixes, (after.rstrip(),) * 2, gold)))
    return items


def _item(item_id: str, prefix: str, options: Sequence[str], gold: int) -> Item:
    return Item(item_id, (prefix,) * len(options), tuple(f" {option.strip()}" for option in options), gold)
