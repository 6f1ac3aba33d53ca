"""What a user hands to a trained model -> the arrays that it takes. A ValueError says what was expected.

TensorFlow tensors are taken like NumPy arrays.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from parts.catalogue import BINARIZATIONS

MOST = 1_000_000  # of whatever is drawn in one call


def examples(x: Any, data_shape: Sequence[int]) -> np.ndarray:
    """Images as uint8 or as float32 in [0, 1], (n, height, width, channels); points as float32, (n, 2).

    The channel axis of grey images may be missing. Booleans are black and white.

    Raises:
        ValueError: for another shape, other types or values, or no example at all.
    """
    x, data_shape = as_array(x, "x"), tuple(data_shape)
    if len(data_shape) == 3 and data_shape[-1] == 1 and x.shape[1:] == data_shape[:-1] and x.ndim == 3:
        x = x[..., np.newaxis]
    if x.ndim != 1 + len(data_shape) or x.shape[1:] != data_shape:
        raise ValueError(f"x has the shape {x.shape}, expected {expected_shape(data_shape)}")
    if not len(x):
        raise ValueError("x holds no example")
    if len(data_shape) == 1:
        return finite(x, "x")
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.float32)
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"x is of type {x.dtype}, expected uint8 from 0 to 255 or floats from 0 to 1")
    x = finite(x, "x")
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"x has values from {x.min():.6g} to {x.max():.6g}, expected uint8, or floats from 0 to 1")
    return x


def expected_shape(data_shape: tuple[int, ...]) -> str:
    """In words, with "n" for the number of examples."""
    shapes = [data_shape] + [data_shape[:-1]] * (len(data_shape) == 3 and data_shape[-1] == 1)
    return " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in shapes)


def known_places(known: Any, shape: Sequence[int]) -> np.ndarray:
    """Booleans, (n, height, width) for images of this shape (n, height, width, channels), (n, 2) for points.

    Raises:
        ValueError: for another shape or type.
    """
    known, wanted = as_array(known, "known"), tuple(shape[:3])
    if known.dtype != bool or known.shape not in (wanted, wanted[1:]):
        expected = f"booleans of shape {wanted} or {wanted[1:]}"
        raise ValueError(f"known is of type {known.dtype} and shape {known.shape}, expected {expected}")
    return np.broadcast_to(known, wanted)


def codes(z: Any, latent_size: int) -> np.ndarray:
    """Codes as float32, (n, latent_size).

    Raises:
        ValueError: for another shape or type, or no code at all.
    """
    z = as_array(z, "z")
    if z.ndim != 2 or z.shape[1] != latent_size or not len(z):
        raise ValueError(f"z has the shape {z.shape}, expected (n, {latent_size}) with n of at least 1")
    return finite(z, "z")


def one_hot(labels: Any, class_names: Sequence[str], num: int) -> np.ndarray:
    """Labels as rows of zeros and ones, (num, classes) float32.

    Args:
        labels: class numbers or class names, (num,); one of them for all examples; or rows of zeros and ones.

    Raises:
        ValueError: for labels that are missing, of another number, or unknown.
    """
    classes = f"{len(class_names)} classes: {', '.join(class_names[:10])}{', ...' * (len(class_names) > 10)}"
    if labels is None:
        raise ValueError(f"this model needs labels, one for each example; it knows {classes}")
    labels = as_array(labels, "labels")
    if labels.ndim == 0:
        labels = np.repeat(labels, num)
    if len(labels) != num:
        raise ValueError(f"there are {len(labels)} labels for {num} examples")
    if labels.ndim == 2 and labels.shape[1] == len(class_names):
        if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
            raise ValueError("rows of labels must hold zeros and ones")
        return labels.astype(np.float32)
    if labels.ndim != 1:
        raise ValueError(
            f"labels have the shape {labels.shape}, expected ({num},) or rows of zeros and ones ({num}, "
            f"{len(class_names)})"
        )
    if labels.dtype == object and all(isinstance(label, str | bytes) for label in labels):  # of pandas, of TensorFlow
        labels = np.array([label.decode() if isinstance(label, bytes) else label for label in labels])
    if labels.dtype.kind == "U":
        unknown = [name for name in labels if name not in class_names]
        if unknown:
            raise ValueError(f"there is no class '{unknown[0]}'; the model knows {classes}")
        labels = np.array([class_names.index(name) for name in labels])
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels are of type {labels.dtype}, expected class numbers, class names or rows of 0 and 1")
    outside = labels[(labels < 0) | (labels >= len(class_names))]
    if outside.size:
        raise ValueError(f"there is no class {outside[0]}: there are classes 0 to {len(class_names) - 1}")
    return np.eye(len(class_names), dtype=np.float32)[labels]


def names_of_classes(names: Any, num: int) -> tuple[str, ...]:
    """The names of a model's classes, by default their numbers. A model without classes may have those of its data.

    Raises:
        ValueError: for names that are no texts, or of another number.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a list of texts, not {names!r:.60}")
    if names and num and len(names) != num:
        raise ValueError(f"there are {len(names)} class names for {num} classes")
    return tuple(names) or tuple(map(str, range(num)))


def way_to_binarize(word: Any) -> str:
    """The word, if it is a way to binarize pixels; else raises a ValueError."""
    if word not in BINARIZATIONS:
        raise ValueError(f"binarize must be {', '.join(BINARIZATIONS[:-1])} or {BINARIZATIONS[-1]}, not {word!r:.60}")
    return word


def probabilities(probs: Any, num: int) -> np.ndarray | None:
    """p(y) of each class, (num,), or None.

    Raises:
        ValueError: for anything that is not `num` probabilities with the sum 1.
    """
    if probs is None or not num:
        return None
    probs = finite(as_array(probs, "class_probs"), "class_probs", np.float64)
    if probs.shape != (num,) or probs.min() < 0 or abs(probs.sum() - 1) > 1e-6:
        raise ValueError(f"class_probs must be {num} probabilities with the sum 1")
    return probs


def shared_classes(class_names: Sequence[str], known: Sequence[str]) -> tuple[list[int], list[int]]:
    """The numbers of those classes of some data that a model knows, in the data and in the model."""
    shared = [name for name in class_names if name in known]
    return [list(class_names).index(name) for name in shared], [list(known).index(name) for name in shared]


def whole(value: Any, name: str, least: int, most: int = MOST) -> int:
    """A whole number within these bounds. Raises a ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} is of type {type(value).__name__}, expected a whole number")
    if not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {value}")
    return int(value)


def seed(value: Any) -> int:
    return whole(value, "seed", 0, 2**63 - 1)


def as_array(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:  # such as rows of different lengths
        raise ValueError(f"{name} is no array: {error}") from None


def finite(values: np.ndarray, name: str, dtype: type = np.float32) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} is of type {values.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        values = values.astype(dtype)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite")
    return values
