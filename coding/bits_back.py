"""Images to bits and back, without loss, at the price of the bound (Townsend et al. 2019).

An image costs -log2 p(x|z) - log2 p(z|y) - log2 p(y) bits, with z popped from the stack by q(z|x, y). That returns
-log2 q(z|x, y) bits, since whoever pops the image can push z again. On average the difference is the negative ELBO,
and the bits of the label.
"""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from coding import decisions
from coding.decisions import FINE
from coding.exact import CodingError
from coding.files import LOSSLESS, Coded
from coding.model import LosslessModel
from coding.stack import PROBABILITY_FRACTION, Stack

LARGEST_GROUP = 200
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
    for rows in groups(earlier.num_images, len(x)):
        push_group(stack, model, x[rows], None if classes is None else classes[rows])
        progress(rows.stop - rows.start)
    counts = (*earlier.counts, len(x))
    return Coded(LOSSLESS, model.digest, model_name, model.data_shape, counts, *stack.changed())


def decompress(
    model: LosslessModel, coded: Coded, progress: Progress = lambda num_images: None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The inverse of `compress`: all images, and their class numbers if the model is conditional.

    Raises:
        CodingError: if the images are not those that were coded.
    """
    stack, parts, num = Stack(coded.words, coded.num_untouched), [], coded.num_images
    for count in reversed(coded.counts):
        num -= count
        x = np.empty((count, *model.data_shape), np.uint8)
        classes = np.empty(count, np.int64) if model.num_classes else None
        for rows in reversed(list(groups(num, count))):
            x[rows], labels = pop_group(stack, model, rows.stop - rows.start)
            if classes is not None:
                classes[rows] = labels
            progress(rows.stop - rows.start)
        if (stack.pop(HALVES) != checksum(x, classes)).any():
            raise CodingError("the images do not agree with their checksum")
        parts.append((x, classes))
    if not stack.is_at_start():
        raise CodingError("there are bits that belong to no image")
    x, classes = zip(*reversed(parts), strict=True)
    return np.concatenate(x), np.concatenate(classes) if model.num_classes else None


def groups(num_before: int, num: int) -> Iterator[slice]:
    """Images that are coded at once. Their codes are all popped first, so early groups are small: each has at most half
    as many images as there are before it."""
    start = 0
    while start < num:
        size = min(max((num_before + start) // 2, 1), LARGEST_GROUP, num - start)
        yield slice(start, start + size)
        start += size


def push_group(stack: Stack, model: LosslessModel, x: np.ndarray, classes: np.ndarray | None) -> None:
    posterior = decisions.normal(*model.moments(x, classes))
    numbers = decisions.pop(stack, (len(x), model.latent_size), posterior, FINE.bits)
    model.likelihood.push(stack, x, model.decoder_output(numbers, classes))
    model.prior.push(stack, numbers, classes)
    model.push_class(stack, classes)


def pop_group(stack: Stack, model: LosslessModel, num: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The inverse of `push_group`."""
    classes = model.pop_class(stack, num)
    numbers = model.prior.pop(stack, num, classes)
    x = model.likelihood.pop(stack, num, model.decoder_output(numbers, classes))
    decisions.push(stack, numbers, decisions.normal(*model.moments(x, classes)), FINE.bits)
    return x, classes


def checksum(x: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """128 bits of SHA-256 of the images and classes."""
    digest = hashlib.sha256(np.ascontiguousarray(x, np.uint8).tobytes())
    if classes is not None:
        digest.update(classes.astype("<i4").tobytes())
    return np.unpackbits(np.frombuffer(digest.digest()[:16], np.uint8))
