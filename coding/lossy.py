"""Codes to bits and back: what is left of an image is its code, rounded.

A posterior says how precisely a latent matters: steps of two of its standard deviations lose little. The rounded codes
cost -log2 p(z|y) - log2 p(y) bits.
"""

import math
from collections.abc import Iterator

import numpy as np

from coding.decisions import Grid
from coding.exact import LARGEST, ONE, CodingError
from coding.files import LARGEST_STEP, LOSSY, Coded
from coding.model import LossyModel
from coding.stack import Stack

SMALLEST_STEP = 2**4  # in multiples of 2^-16
GROUP = 500


def compress_codes(
    model: LossyModel, x: np.ndarray, classes: np.ndarray | None = None, *, levels: float = 1.0, model_name: str = ""
) -> Coded:
    """Code the posterior means of images; see `bits_back.compress` for the arguments.

    Args:
        levels: of a latent, in a range of two standard deviations of its posterior (geometric mean over the images).
    """
    mean, inverse_std = model.moments(x, classes)
    widths = ONE * np.exp(-np.log(inverse_std / ONE).mean(axis=0)) if len(x) else np.full(model.latent_size, ONE)
    steps = np.clip(np.round(2.0 * widths / levels), SMALLEST_STEP, LARGEST_STEP).astype(np.int64)
    grid, stack = grid_of(steps), Stack()
    numbers = grid.nearest(mean)
    for rows in reversed(list(groups(len(x)))):
        labels = None if classes is None else classes[rows]
        model.prior.push(stack, numbers[rows], labels, grid)
        model.push_class(stack, labels)
    return Coded(LOSSY, model.digest, model_name, model.data_shape, (len(x),), *stack.changed(), steps)


def decompress_codes(model: LossyModel, coded: Coded) -> tuple[np.ndarray, np.ndarray | None]:
    """The rounded codes, (n, latent) float32, and the class numbers if the model is conditional.

    Raises:
        CodingError: if the codes are not those that were coded.
    """
    if len(coded.steps) != model.latent_size:
        raise CodingError("the number of its steps is not that of the latents")
    grid, stack = grid_of(coded.steps), Stack(coded.words, coded.num_untouched)
    z, classes = [np.zeros((0, model.latent_size))], [np.zeros(0, np.int64)]
    for rows in groups(coded.num_images):
        labels = model.pop_class(stack, rows.stop - rows.start)
        z.append(grid.values(model.prior.pop(stack, rows.stop - rows.start, labels, grid)))
        classes += [] if labels is None else [labels]
    if not stack.is_at_start():
        raise CodingError("there are bits that belong to no image")
    return (np.concatenate(z) / ONE).astype(np.float32), np.concatenate(classes) if model.num_classes else None


def groups(num: int) -> Iterator[slice]:
    """Images whose codes are pushed at once; the last group is pushed first, so that the first is popped first."""
    return (slice(start, min(start + GROUP, num)) for start in range(0, num, GROUP))


def grid_of(steps: np.ndarray) -> Grid:
    """The grid of these steps from -256 to 256, or further."""
    return Grid(steps, math.ceil(math.log2(2 * LARGEST / int(steps.min()))))
