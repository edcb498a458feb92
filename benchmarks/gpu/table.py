"""The figures as a short table, which is printed last."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any


def table(figures: dict[str, Any]) -> str:
    """What was measured, on which device; a line for each contender and for each task."""
    machine = figures.get("machine", {})
    lines = [f"{machine.get('device')}, torch {machine.get('torch')}, transformers {machine.get('transformers')}"]
    ceilings = figures.get("ceilings", {})
    lines += [f"  {name.replace('_per_second', '')}: {value / 1e12:.3f} T/s" for name, value in ceilings.items()]
    lines += _throughput(figures.get("throughput", {}), ceilings.get("matmul_flops_per_second"))
    found = figures.get("headline", {}).get("pretraining")
    if found:
        lines.append(
            f"pre-training: {found['epochs']} epochs in {found['seconds']:.1f} s, {found['ms_per_step']:.3f} ms a step, "
            f"held-out loss {found['heldout_loss']:.4f}, accuracy {found['heldout_accuracy']:.4f}"
        )
    lines += _tasks(figures.get("finetuned", {}))
    lines += [f"FAILED {name}: {reason[:200]}" for name, reason in figures.get("failed", {}).items()]
    lines.append("seconds: " + ", ".join(f"{k} {v:.0f}" for k, v in figures.get("seconds", {}).items()))
    return "\n".join(lines)


def _throughput(rows: dict[str, Any], ceiling: float | None) -> list[str]:
    if not rows:
        return []
    lines = [f"{'case | contender':58} {'ms':>8} {'ktok/s':>8} {'TFLOP/s':>8} {'ceiling':>8} {'÷ stock':>8}"]
    for name, row in rows.items():
        if "error" in row:
            lines.append(f"{name:58} {row['error'][:120]}")
            continue
        stock = rows.get(f"{name.partition(' | ')[0]} | stock", {}).get("tokens_per_second")
        share = f"{row['useful_flops_per_second'] / ceiling:8.1%}" if ceiling else f"{'':8}"
        ratio = f"{row['tokens_per_second'] / stock:8.2f}" if stock else ""
        lines.append(
            f"{name:58} {row['ms']:8.3f} {row['tokens_per_second'] / 1e3:8.1f} "
            f"{row['useful_flops_per_second'] / 1e12:8.2f} {share} {ratio}"
        )
    return lines


def _tasks(rows: dict[str, Any]) -> list[str]:
    """Mean test accuracy of the seeds that ran, by model and Ws, the largest first; Ws = 0 is from scratch."""
    groups: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows.values():
        groups[f"{row['task']}, {row['arch']}"][row["ws"]].append(row["test_accuracy"])
    lines = []
    for name, found in groups.items():
        means = [(f"Ws {ws:,}" if ws else "scratch", found[ws]) for ws in sorted(found, reverse=True)]
        lines.append(
            f"{name}: " + ", ".join(f"{word} {statistics.mean(own):.4f} (of {len(own)})" for word, own in means)
        )
    return lines
