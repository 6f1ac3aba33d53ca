"""Arithmetic that is exact, so that every machine computes the same probabilities.

A value is a multiple of 2^-16 and a weight is one too. Both are held as whole numbers in float64. Their products and
sums are whole numbers below 2^53, so float64 has them without rounding: in any order, with any number of threads, on
any processor. Between layers values are rounded back to multiples of 2^-16.

Functions such as exp are read from tables. These are made by additions, multiplications and divisions alone, which
IEEE 754 defines to the last bit. (Mathematical libraries differ in theirs.)
"""

import functools
import math
from collections.abc import Callable

import numpy as np

from storage.errors import UserError

FRACTION = 16  # bits behind the point of values and weights
ONE = 2**FRACTION
LARGEST = 2**8 * ONE  # values beyond are cut off
TABLE_FRACTION = 10  # of the arguments of tables


class CodingError(UserError):
    """A model or some data cannot be coded, or coded data cannot be read; the message says why."""


def to_grid(values: np.ndarray, fraction: int = FRACTION) -> np.ndarray:
    """Numbers as multiples of 2^-fraction: whole numbers in float64."""
    return np.floor(np.asarray(values, np.float64) * 2.0**fraction + 0.5)


def rescaled(products: np.ndarray) -> np.ndarray:
    """Sums of products, multiples of 2^-32, rounded in place to values and cut off at the largest."""
    products *= 2.0**-FRACTION
    products += 0.5
    np.floor(products, out=products)
    return np.clip(products, -LARGEST, LARGEST, out=products)


def cut_off(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -LARGEST, LARGEST, out=values)


class Table:
    """A function of values, read from a table and constant outside its range.

    Args:
        function: of float64 arrays, made of exactly defined operations.
        limit: the table reaches from -limit to limit.
        fraction: bits behind the point of the results.
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], limit: int, fraction: int = FRACTION):
        self.last = limit << TABLE_FRACTION
        arguments = np.arange(-self.last, self.last + 1) / 2.0**TABLE_FRACTION
        self.entries = to_grid(function(arguments), fraction)
        self.whole_entries = self.entries.astype(np.int64)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Results in float64, for the nearest argument in the table."""
        places = np.floor(values * 2.0 ** (TABLE_FRACTION - FRACTION) + 0.5)
        return self.entries[(np.clip(places, -self.last, self.last, out=places) + self.last).astype(np.int32)]

    def between(self, arguments: np.ndarray, fraction: int) -> np.ndarray:
        """Results as int64, interpolated linearly, for int64 arguments in multiples of 2^-fraction."""
        rest_bits = fraction - TABLE_FRACTION
        limit = self.last << rest_bits
        arguments = np.clip(arguments, -limit, limit - 1) + limit
        places, rests = arguments >> rest_bits, arguments & ((1 << rest_bits) - 1)
        left = self.whole_entries[places]
        return left + ((self.whole_entries[places + 1] - left) * (rests >> (rest_bits - 16)) >> 16)


def exp(x: np.ndarray) -> np.ndarray:
    """e^x by a Taylor series around the nearest multiple of log 2."""
    exponent = np.floor(x * 1.4426950408889634 + 0.5)
    rest = (x - exponent * 0.693145751953125) - exponent * 1.4286068203094172e-06  # log 2 in two parts
    result = np.ones_like(rest)
    for n in range(20, 0, -1):
        result = 1.0 + result * rest / n
    return np.ldexp(result, exponent.astype(np.int32))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + exp(-x))


def normal_cdf(x: np.ndarray) -> np.ndarray:
    """1/2 + N(x; 0, 1) (x + x^3 / 3 + x^5 / (3 5) + ...)"""
    term, total = x, x
    for n in range(3, 301, 2):
        term = term * x / n * x
        total = total + term
    return 0.5 + 0.3989422804014327 * exp(-0.5 * x * x) * total


def bounded(x: np.ndarray, bound: float = 15.0) -> np.ndarray:
    """bound tanh(x / bound), as `parts.networks.bounded_logvar`."""
    e = exp(-2.0 * x / bound)
    return bound * (1.0 - e) / (1.0 + e)


@functools.cache
def tables() -> dict[str, Table]:
    return {
        "elu": Table(lambda x: exp(np.minimum(x, 0.0)) - 1.0, 16),
        "gelu": Table(lambda x: x * (normal_cdf(x) - (x > 0)), 8),
        "inverse_std": Table(lambda raw_logvar: exp(-0.5 * bounded(raw_logvar)), 64),
        "inverse_scale": Table(lambda log_scale: exp(-log_scale), 7),
        "weight": Table(lambda logit: exp(np.minimum(logit, 0.0)), 16),  # of a mixture, relative to the largest
        "sigmoid": Table(sigmoid, 24, 32),
        "normal_cdf": Table(normal_cdf, 8, 32),
        "probability": Table(sigmoid, 17, 24),
    }


def elu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0.0) + tables()["elu"](values)


def gelu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0.0) + tables()["gelu"](values)


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0.0)


def leaky_relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, np.floor(values * (round(0.2 * ONE) / ONE) + 0.5))


def linear(values: np.ndarray) -> np.ndarray:
    return values


ACTIVATIONS = {function.__name__: function for function in (elu, gelu, relu, leaky_relu, linear)}


class Affine:
    """x W + b for rows x, which have no value beyond `largest`.

    Raises:
        CodingError: if the weights are so large that sums of products might not be exact.
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray | float = 0.0, largest: int = LARGEST):
        self.kernel = to_grid(kernel)  # (inputs, outputs)
        self.bias = to_grid(bias, 2 * FRACTION)
        largest_sum = np.abs(self.kernel).sum(axis=0).max() * largest + np.abs(self.bias).max()
        if not math.isfinite(largest_sum) or largest_sum >= 2.0**52:
            raise CodingError("the model's weights are too large for exact arithmetic, so it cannot compress")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return rescaled(x @ self.kernel + self.bias)


class Convolution:
    """A convolution of maps (batch, height, width, channels) that reads them at some places around each pixel.

    Args:
        kernel: (rows, columns, inputs, outputs)
        mask: (rows, columns) of the places that are read; all of them by default.
        before, after: zeros that are added above and left, below and right, each for rows and columns.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        bias: np.ndarray | float = 0.0,
        *,
        before: tuple[int, int],
        after: tuple[int, int],
        stride: int = 1,
        mask: np.ndarray | None = None,
        largest: int = LARGEST,
    ):
        mask = np.ones(kernel.shape[:2]) if mask is None else mask
        self.places = [(int(row), int(column)) for row, column in np.argwhere(mask)]
        self.affine = Affine(np.concatenate([kernel[place] for place in self.places]), bias, largest)
        self.inputs = kernel.shape[2]
        self.before, self.after, self.stride = before, after, stride

    def padded(self, shape: tuple[int, ...]) -> np.ndarray:
        """An empty map with the zeros around it."""
        num, height, width, channels = shape
        (top, left), (bottom, right) = self.before, self.after
        return np.zeros((num, top + height + bottom, left + width + right, channels))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        num, height, width, _ = x.shape
        padded = self.padded(x.shape)
        padded[:, self.before[0] : self.before[0] + height, self.before[1] : self.before[1] + width] = x
        # Strides of 2 round up, as TensorFlow's "same" padding does.
        height, width = -(-height // self.stride), -(-width // self.stride)
        seen = np.empty((num, height, width, len(self.places), self.inputs))
        for i, (row, column) in enumerate(self.places):
            rows = slice(row, row + height * self.stride, self.stride)
            seen[:, :, :, i] = padded[:, rows, column : column + width * self.stride : self.stride]
        return self.affine(seen.reshape(-1, len(self.places) * self.inputs)).reshape(num, height, width, -1)

    def at(self, padded: np.ndarray, row: int, column: int) -> np.ndarray:
        """The output for one pixel of each padded map: (batch, outputs)."""
        seen = np.empty((len(padded), len(self.places), self.inputs))
        for i, (down, right) in enumerate(self.places):
            seen[:, i] = padded[:, row + down, column + right]
        return self.affine(seen.reshape(len(padded), -1))
