"""Images to bits and back, without loss, at the price of the bound (Townsend et al. 2019).

An image costs -log2 p(x|z) - log2 p(z|y) - log2 p(y) bits, with z popped from the stack by q(z|x, y). That returns
-log2 q(z|x, y) bits, since whoever pops the image can push z again. On average the difference is the negative ELBO,
and the bits of the label.
"""

import hashlib
import math
from collections.abc import Callable

import numpy as np

from coding import decisions
from coding.decisions import FINE
from coding.exact import ONE, CodingError
from coding.files import LOSSLESS, Coded
from coding.model import LosslessModel
from coding.stack import PROBABILITY_FRACTION, Stack

MOST_IMAGES = 200  # coded at once, and fewer if they are larger than 28x28
SIZE_BITS = 8  # of the number of images in a group
SIZES = np.ones(1 << SIZE_BITS, np.int64)
HALVES = np.full(128, 1 << PROBABILITY_FRACTION - 1)  # probabilities of the bits of a checksum

Progress = Callable[[int], None]


def compress(
    model: LosslessModel,
    x: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    model_name: str = "",
    earlier: Coded | None = None,
    progress: Progress = lambda num_images: None,
) -> Coded:
    """Code images without loss.

    Args:
        x: uint8 (n, height, width, channels), the pixels 0 and 1 or the levels 0 to 255.
        classes: (n,) class numbers, for a conditional model.
        model_name: for messages.
        earlier: images of the same model, to which these are appended.
        progress: called with the number of images of each group that is done.
    """
    earlier = earlier or Coded(LOSSLESS, model.digest, model_name, model.data_shape, (), *Stack().changed())
    stack = Stack(earlier.words, earlier.num_untouched)
    stack.push(checksum(x, classes), HALVES)  # has to be sent anyway, and gives the first bits for codes
    height, width, _ = model.data_shape
    largest = max(1, MOST_IMAGES * 28 * 28 // max(height * width, 28 * 28))
    start, most = 0, 1
    while start < len(x):
        rows = slice(start, start + most)
        size = push_group(stack, model, x[rows], None if classes is None else classes[rows])
        start, most = start + size, min(2 * size, largest)
        progress(size)
    counts = (*earlier.counts, len(x))
    return Coded(LOSSLESS, model.digest, model_name, model.data_shape, counts, *stack.changed())


def decompress(
    model: LosslessModel, coded: Coded, progress: Progress = lambda num_images: None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The inverse of `compress`: all images, and their class numbers if the model is conditional.

    Raises:
        CodingError: if the images are not those that were coded.
    """
    stack, parts = Stack(coded.words, coded.num_untouched), []
    for count in reversed(coded.counts):
        images, labels = [np.zeros((0, *model.data_shape), np.uint8)], [np.zeros(0, np.int64)]
        missing = count
        while missing:
            group, classes = pop_group(stack, model, missing)
            images.append(group)
            labels.append(classes if model.num_classes else labels[0])
            missing -= len(group)
            progress(len(group))
        x = np.concatenate(images[::-1])
        classes = np.concatenate(labels[::-1]) if model.num_classes else None
        if (stack.pop(HALVES) != checksum(x, classes)).any():
            raise CodingError("the images do not agree with their checksum")
        parts.append((x, classes))
    if not stack.is_at_start():
        raise CodingError("there are bits that belong to no image")
    x, classes = zip(*reversed(parts), strict=True)
    return np.concatenate(x), np.concatenate(classes) if model.num_classes else None


def push_group(stack: Stack, model: LosslessModel, x: np.ndarray, classes: np.ndarray | None) -> int:
    """Push as many of these images as there are bits for their codes, but at least one; gives their number."""
    mean, inverse_std = model.moments(x, classes)
    size = affordable(stack, inverse_std)
    x, classes = x[:size], None if classes is None else classes[:size]
    posterior = decisions.normal(mean[:size], inverse_std[:size])
    numbers = decisions.pop(stack, mean[:size].shape, posterior, FINE.bits)
    model.likelihood.push(stack, x, model.decoder_output(numbers, classes))
    model.prior.push(stack, numbers, classes)
    model.push_class(stack, classes)
    decisions.push(stack, np.array([size - 1]), decisions.classes(SIZES)[0], SIZE_BITS)
    return size


def affordable(stack: Stack, inverse_std: np.ndarray) -> int:
    """How many images, one after the other, have codes whose bits are on the stack already. (Bits that are not there
    are taken from the known words, and then count as part of the file.)"""
    bits = np.log2(math.sqrt(2 * math.pi * math.e) * ONE / inverse_std * ONE / FINE.steps).clip(0) + 1
    needed = np.cumsum(bits.sum(axis=1))
    return max(1, int(np.searchsorted(needed, stack.num_free_bits, side="right")))


def pop_group(stack: Stack, model: LosslessModel, most: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The inverse of `push_group`: images and class numbers.

    Raises:
        CodingError: if there are more than `most`.
    """
    num = 1 + int(decisions.pop(stack, (1,), decisions.classes(SIZES)[0], SIZE_BITS)[0])
    if num > most:
        raise CodingError("a group has more images than are left")
    classes = model.pop_class(stack, num)
    numbers = model.prior.pop(stack, num, classes)
    x = model.likelihood.pop(stack, (num, *model.data_shape), model.decoder_output(numbers, classes))
    decisions.push(stack, numbers, decisions.normal(*model.moments(x, classes)), FINE.bits)
    return x, classes


def checksum(x: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """128 bits of SHA-256 of the images and classes."""
    digest = hashlib.sha256(np.ascontiguousarray(x, np.uint8).tobytes())
    if classes is not None:
        digest.update(classes.astype("<i4").tobytes())
    return np.unpackbits(np.frombuffer(digest.digest()[:16], np.uint8))
