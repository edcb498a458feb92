"""What stages have in common that make a classifier of other classifiers: its predictions of the items not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlm.inference.finetuned import FinetunedModel
    from tlm.stages.job import Facts, Job


def predict_held_out(job: Job, model: FinetunedModel) -> Facts:
    """Write predictions.parquet of dev and test items (inputs task, tokens, tokenizer); the facts of how many are right."""
    import numpy as np

    items = job.frame("task", "items.parquet")
    held = items[items["part"] != "train"]
    logits_NC = model.logits(job.sequences("tokens"), held["row"].to_numpy(), job.vocabulary())
    job.write(held[["item_id", "part", "label"]].assign(logits=list(logits_NC)), "predictions.parquet")
    right_N, part_N = logits_NC.argmax(axis=1) == held["label"].to_numpy(), held["part"].to_numpy()
    test = int((part_N == "test").sum())
    return {
        **({"test_accuracy": float(np.mean(right_N[part_N == "test"]))} if test else {}),
        "dev_accuracy": float(np.mean(right_N[part_N == "dev"])),
        "test_items": test,
    }
