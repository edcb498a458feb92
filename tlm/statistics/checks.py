"""What every function of this package asks of its input. Errors name the value and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def correctness(values: ArrayLike, name: str) -> Floats:
    """`values` as pre-training seeds × fine-tuning seeds × items of 0.0 and 1.0.

    Accepts (items,), (seeds, items) and (pre-training seeds, fine-tuning seeds of each, items). What is not nested is
    returned as (seeds, 1, items): each run is then a unit of its own.

    Raises:
        ValueError: if it has another number of dimensions, no seed, fewer than two items, NaN or values but 0 and 1.
    """
    array = _array(values, name)
    if array.ndim not in (1, 2, 3):
        raise ValueError(
            f"{name} has shape {array.shape}; give (items,), (seeds, items) or "
            "(pre-training seeds, fine-tuning seeds, items)."
        )
    if 0 in array.shape[:-1]:
        raise ValueError(f"{name} has shape {array.shape}: seeds < 1; give the correctness of at least one run.")
    if array.shape[-1] < 2:
        raise ValueError(f"{name} has {array.shape[-1]} items; the spread over items needs at least 2.")
    _refuse_nan(array, name, "leave items without a prediction out of every system")
    if not np.isin(array, (0, 1)).all():
        odd = array[~np.isin(array, (0, 1))][0]
        raise ValueError(f"{name} holds {odd:g}; give 1 where a prediction is correct, 0 where it is not.")
    return array.reshape(-1, 1, array.shape[-1]) if array.ndim < 3 else array


def same_items(a: Floats, b: Floats) -> None:
    """Raise ValueError unless the last axes agree."""
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"a has {a.shape[-1]} items and b has {b.shape[-1]}; give both systems the same items in the same order."
        )


def vector(values: ArrayLike, name: str, *, at_least: int = 1) -> Floats:
    """`values` as a 1-D array of finite floats.

    Raises:
        ValueError: if it is not 1-D, shorter than `at_least`, or holds NaN or infinity.
    """
    array = _array(values, name)
    if array.ndim != 1 or len(array) < at_least:
        raise ValueError(f"{name} has shape {array.shape}; give one dimension of at least {at_least} values.")
    _refuse_nan(array, name, "leave such points out of every argument")
    return array


def same_length(**arrays: NDArray[Any]) -> None:
    """Raise ValueError, with every length, unless all are as long as the first."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lengths differ: {lengths}; give one value of each for every point.")


def confidence_level(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a share between 0 and 1, such as 0.95.")


def number_of_draws(draws: int) -> None:
    if draws < 100:
        raise ValueError(f"draws is {draws}; a bootstrap needs at least 100, and 10,000 for two stable digits.")


def _array(values: ArrayLike, name: str) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers ({error}); rows must be equally long.") from error


def _refuse_nan(array: Floats, name: str, remedy: str) -> None:
    odd = np.argwhere(~np.isfinite(array))
    if len(odd):
        place = tuple(int(n) for n in odd[0])
        raise ValueError(f"{name} holds {array[place]} at {list(place)}; {remedy}.")
