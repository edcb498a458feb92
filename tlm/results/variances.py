"""How much results vary, over seeds and over items: estimated from all that was measured, for `tlm.results.rehearsal`.

Studies are pooled. What a task was never measured with, it has from what is nearest: another architecture on it, another
task, or a stated assumption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tlm.results.made_up import Shares
from tlm.statistics.runs import Run, stack_runs
from tlm.statistics.spread import seed_parts

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection

Place = tuple[str, str, int, str | None]
"""Task, system, Ws (0: scratch), treatment."""
Which = tuple[Place, int, str | None, str | None]
"""A place, what identifies the test items, and the mart's `setting` and `pretrain_setting`."""
Floats = NDArray[np.float64]

SEED_DEVIATION = 0.01
SCRATCH, PRETRAINED, BASELINE = 0.60, 0.65, 0.60
SHARES = Shares(task=0.5, system=0.2)
ASSUMED = (
    f"seeds with a standard deviation of {100 * SEED_DEVIATION:g} point, items right or wrong by chance (binomial), "
    f"at {100 * SCRATCH:.0f} % from scratch and {100 * PRETRAINED:.0f} % pre-trained"
)
"""What is taken where nothing was measured."""
LEAST_SHARE = 0.05
"""Of the variance that is a run's own: two runs are never right on just the same items."""
_GRID = np.linspace(0.0, 0.99, 100)


@dataclass
class _Pool:
    """A mean of estimates, each weighted by its degrees of freedom."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float) -> None:
        self.total, self.weight = self.total + weight * value, self.weight + weight

    @property
    def mean(self) -> float | None:
        return self.total / self.weight if self.weight else None


def _pools() -> defaultdict[tuple[object, ...], _Pool]:
    return defaultdict(_Pool)


@dataclass
class Variances:
    """What was measured, pooled; lookups fall back on what is nearest."""

    runs: int = 0
    accuracies: defaultdict[tuple[object, ...], _Pool] = field(default_factory=_pools)
    seeds: defaultdict[tuple[object, ...], _Pool] = field(default_factory=_pools)
    """Variances of a run's expected accuracy over seeds."""
    shares_seen: dict[str, Shares] = field(default_factory=dict)
    """By task."""

    @property
    def tasks(self) -> list[str]:
        return sorted(self.shares_seen)

    def accuracy(self, task: str, system: str, ws: int, treatment: str | None) -> float:
        """Expected accuracy of a model: as measured in this place, else of the nearest."""
        arm = ws > 0
        places = ((task, system, ws, treatment), (task, system, arm), (task, arm))
        return _first(self.accuracies, places, PRETRAINED if arm else SCRATCH)

    def baseline(self, task: str, name: str) -> float:
        return _first(self.accuracies, [("baseline", task, name)], BASELINE)

    def deviation(self, task: str, system: str, *, pretrained: bool) -> float:
        """Standard deviation over seeds of a run's expected accuracy, a share."""
        places = ((task, system, pretrained), (task, pretrained), (system, pretrained), (pretrained,))
        return float(np.sqrt(max(0.0, _first(self.seeds, places, SEED_DEVIATION**2))))

    def shares(self, task: str) -> Shares:
        """How much of what is hard the items are, and the systems."""
        if task in self.shares_seen or not self.shares_seen:
            return self.shares_seen.get(task, SHARES)
        every = self.shares_seen.values()
        return Shares(*(float(np.mean([getattr(each, part) for each in every])) for part in ("task", "system")))


def _first(pools: dict[tuple[object, ...], _Pool], places: Iterable[tuple[object, ...]], otherwise: float) -> float:
    """Of the first place where something was measured."""
    means = (pools[place].mean for place in places if place in pools)
    return next((mean for mean in means if mean is not None), otherwise)


def measured(connections: Iterable[Connection]) -> Variances:
    """Variances of everything in some marts: a catalogue's, or those of published studies, where a result counts once."""
    found = Variances()
    systems: dict[tuple[str, object], list[tuple[Floats, float]]] = defaultdict(list)
    known: dict[Which, dict[str, Run]] = defaultdict(dict)
    for connection in connections:
        _gather(connection, known)
        for task, name, accuracy in connection.sql(
            "select task, system, avg(accuracy) from results where kind = 'baseline' group by all"
        ).fetchall():
            found.accuracies["baseline", task, name].add(accuracy, 1)
    for (place, items, *_), runs in known.items():
        cube_SN = stack_runs(runs.values())
        found.runs += len(runs)
        task, system, ws, _ = place
        arm, mean, flat = ws > 0, float(cube_SN.mean()), cube_SN.reshape(-1, cube_SN.shape[-1])
        for near in (place, (task, system, arm), (task, arm)):
            found.accuracies[near].add(mean, len(flat))
        # Of runs that are independent: one fine-tuning of each pre-training, or those of one model.
        for rows_SN in np.moveaxis(cube_SN, 1, 0) if cube_SN.ndim > 2 else [cube_SN]:
            if len(rows_SN) > 1:
                value, freedom, noise = seed_parts(rows_SN.astype(np.float64))
                for varied in ((task, system, arm), (task, arm), (system, arm), (arm,)):
                    found.seeds[varied].add(len(rows_SN) * (value - noise), freedom)
        systems[task, items].append((flat.mean(axis=0), _within(flat)))
    shares: dict[str, list[Shares]] = defaultdict(list)
    for (task, _), those in systems.items():
        shares[task] += [each] if (each := _shares(those)) else []
    found.shares_seen = {task: Shares(float(np.mean([e.task for e in each])), float(np.mean([e.system for e in each])))
                         for task, each in shares.items() if each}  # fmt: skip
    return found


def _gather(connection: Connection, known: dict[Which, dict[str, Run]]) -> None:
    """Add the runs behind a connection to those that are known, by key."""
    table = connection.sql(
        """with right_items as (
            select key, list(correct order by item_id) as correct, hash(list(item_id order by item_id)) as items
            from predictions where part = 'test' and rule is null group by key
        )
        select
            results.key, results.task, results.system, results.ws, results.treatment, results.setting,
            results.pretrain_setting, results.pretrain_seed, results.finetune_seed, right_items.items, right_items.correct
        from results inner join right_items on results.key = right_items.key
        where results.kind = 'finetune' and results.ws is not null
        order by results.pretrain_seed, results.finetune_seed, results.key"""
    ).to_arrow_table()
    correct = table["correct"].combine_chunks() if table.num_rows else []
    for place, row in enumerate(table.drop(["correct"]).to_pylist()):
        right = correct[place].values.to_numpy(zero_copy_only=False).astype(bool)
        about = (row["task"], row["system"], row["ws"], row["treatment"])
        which = (about, row["items"], row["setting"], row["pretrain_setting"])
        known[which][row["key"]] = Run(row["pretrain_seed"], row["finetune_seed"], right)


# --- from who was right to shares of what is hard ---


def _within(flat_SN: NDArray[np.bool_]) -> float:
    """The correlation of how hard two runs of one system find an item; NaN of a single run."""
    runs = len(flat_SN)
    if runs < 2:
        return float("nan")
    right_N = flat_SN.sum(axis=0, dtype=np.float64)
    both = float((right_N * (right_N - 1)).mean()) / (runs * (runs - 1))
    mean = float(flat_SN.mean())
    return _latent(both, mean, mean)


def _shares(systems: list[tuple[Floats, float]]) -> Shares | None:
    """Of one task's systems, each by the mean correctness of every item and by `_within`; None if there are no two runs."""
    within = [value for _, value in systems if np.isfinite(value)]
    if not within:
        return None
    own = min(float(np.mean(within)), 1 - LEAST_SHARE)
    means_GN = np.array([mean_N for mean_N, _ in systems])
    both_GG, level_G = means_GN @ means_GN.T / means_GN.shape[1], means_GN.mean(axis=1)
    pairs = list(zip(*np.triu_indices(len(systems), 1), strict=True))
    between = [_latent(float(both_GG[a, b]), float(level_G[a]), float(level_G[b])) for a, b in pairs]
    there = [value for value in between if np.isfinite(value)]
    # Of a single system it cannot be told which part is the items' own.
    task = min(float(np.mean(there)), own) if there else own * SHARES.task / (SHARES.task + SHARES.system)
    return Shares(task, own - task)


def _latent(both: float, p: float, q: float) -> float:
    """The correlation of two standard normals that are below the quantiles of p and q together with probability `both`.

    The derivative of that probability by the correlation is the normal density there (Plackett 1954). NaN where p or q is 0
    or 1, of which any correlation is possible.
    """
    if not 0 < p < 1 or not 0 < q < 1:
        return float("nan")
    h, k = ndtri([p, q])
    left = 1 - _GRID**2
    density = np.exp(-(h * h - 2 * _GRID * h * k + k * k) / (2 * left)) / (2 * np.pi * np.sqrt(left))
    joint = p * q + np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(_GRID))])
    return float(np.interp(both, joint, _GRID))
