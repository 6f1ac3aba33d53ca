"""Whole numbers as binary decisions: is it in the upper half of the range, then of that half, and so on.

A distribution is given by its cumulative function F: F(k) is the mass below k, as int64, and rises with every k.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from coding.exact import FRACTION, LARGEST, ONE, tables
from coding.stack import PROBABILITY_FRACTION, Stack

Cumulative = Callable[[np.ndarray], np.ndarray]

LEVEL_BITS = 8
MASS_FRACTION = 32  # of F, besides 1 for every number, so that all can be coded


def descend(cumulative: Cumulative, shape: tuple[int, ...], num_bits: int, decide: Callable) -> np.ndarray:
    """Numbers from 0 to 2^num_bits - 1, found by num_bits decisions: int64 of this shape.

    Args:
        decide: takes the number of the level, the middle of the range, and the probability of its upper half in
            multiples of 2^-24; gives whether the number is in the upper half.
    """
    low = np.zeros(shape, np.int64)
    mass_low, mass_high = cumulative(low), cumulative(low + (1 << num_bits))
    for level in range(num_bits):
        middle = low + (1 << num_bits - 1 - level)
        mass_middle = cumulative(middle)
        upper = ((mass_high - mass_middle) << PROBABILITY_FRACTION) // (mass_high - mass_low)
        is_upper = decide(level, middle, upper)
        low = np.where(is_upper, middle, low)
        mass_low, mass_high = np.where(is_upper, mass_middle, mass_low), np.where(is_upper, mass_high, mass_middle)
    return low


def decisions_for(numbers: np.ndarray, cumulative: Cumulative, num_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The decisions that lead to these numbers, and their probabilities: (num_bits, ...) each."""
    decisions = np.empty((num_bits, *numbers.shape), bool)
    probabilities = np.empty(decisions.shape, np.int64)

    def decide(level: int, middle: np.ndarray, upper: np.ndarray) -> np.ndarray:
        decisions[level], probabilities[level] = numbers >= middle, upper
        return decisions[level]

    descend(cumulative, numbers.shape, num_bits, decide)
    return decisions, probabilities


def push(stack: Stack, numbers: np.ndarray, cumulative: Cumulative, num_bits: int) -> None:
    stack.push(*decisions_for(numbers, cumulative, num_bits))


def pop(stack: Stack, shape: tuple[int, ...], cumulative: Cumulative, num_bits: int) -> np.ndarray:
    """The inverse of `push`: numbers of this shape."""
    return descend(cumulative, shape, num_bits, lambda level, middle, upper: stack.pop(upper) == 1)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Codes z as whole numbers from 0 to 2^bits - 1: z = step (number - 2^bits / 2).

    Args:
        steps: of each latent, in multiples of 2^-16: (latent,) or (1,), int64.
    """

    steps: np.ndarray
    bits: int

    def values(self, numbers: np.ndarray) -> np.ndarray:
        return np.clip((numbers - (1 << self.bits - 1)) * self.steps, -LARGEST, LARGEST).astype(np.float64)

    def lower_edges(self, numbers: np.ndarray) -> np.ndarray:
        """Where the values begin that are rounded to these numbers, in multiples of 2^-16."""
        return np.clip((2 * (numbers - (1 << self.bits - 1)) - 1) * self.steps // 2, -LARGEST, LARGEST)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The numbers of the nearest codes."""
        numbers = np.floor(values / self.steps + 0.5).astype(np.int64) + (1 << self.bits - 1)
        return np.clip(numbers, 0, (1 << self.bits) - 1)

    def of_latent(self, number: int) -> "Grid":
        return Grid(self.steps[number : number + 1] if len(self.steps) > 1 else self.steps, self.bits)


FINE = Grid(np.array([ONE >> 8]), 15)  # from -64 to 64


def normal(mean: np.ndarray, inverse_std: np.ndarray, grid: Grid = FINE) -> Cumulative:
    """The normal distribution, rounded to a grid. The mean and 1 / std are values, (batch, latent)."""
    mean, inverse_std = mean.astype(np.int64), inverse_std.astype(np.int64)

    def cumulative(numbers: np.ndarray) -> np.ndarray:
        scaled = (grid.lower_edges(numbers) - mean) * inverse_std
        return tables()["normal_cdf"].between(scaled, 2 * FRACTION) + numbers

    return cumulative


def normal_mixture(weights: np.ndarray, means: np.ndarray, inverse_stds: np.ndarray, grid: Grid = FINE) -> Cumulative:
    """A mixture of normal distributions, rounded to a grid. The arguments are values, (batch, components, latent)."""
    weights, means, inverse_stds = (part.astype(np.int64) for part in (weights, means, inverse_stds))
    total = weights.sum(axis=1)

    def cumulative(numbers: np.ndarray) -> np.ndarray:
        scaled = (grid.lower_edges(numbers)[:, None] - means) * inverse_stds
        masses = tables()["normal_cdf"].between(scaled, 2 * FRACTION)
        return (weights * masses).sum(axis=1) // total + numbers

    return cumulative


def logistic_levels(location: np.ndarray, inverse_scale: np.ndarray) -> Cumulative:
    """The discretized logistic over the levels 0 to 255, see `parts.likelihoods.DiscretizedLogistic`."""
    location, inverse_scale = location.astype(np.int64), inverse_scale.astype(np.int64)
    lower_edges = ((2 * np.arange(257) - 1) * ONE + 255) // 510

    def cumulative(levels: np.ndarray) -> np.ndarray:
        masses = tables()["sigmoid"].between((lower_edges[levels] - location) * inverse_scale, 2 * FRACTION)
        whole = 1 << MASS_FRACTION
        return np.where(levels == 0, 0, np.where(levels == 256, whole, masses)) + (levels << 10)

    return cumulative


def classes(masses: np.ndarray) -> tuple[Cumulative, int]:
    """A distribution over classes from whole masses, and the number of bits of a class number."""
    num_bits = max(1, int(len(masses) - 1).bit_length())
    padding = np.ones((1 << num_bits) - len(masses), np.int64)
    sums = np.concatenate([[0], np.cumsum(np.concatenate([masses, padding]))])
    return lambda numbers: sums[numbers], num_bits
