"""A few examples in the form that a model takes."""

import tensorflow as tf

from sources.batches import prepare
from sources.examples import Examples


def to_batch(examples: Examples, binarize: str, seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(x, labels), float32, with images in [0, 1]."""
    x, labels, _ = prepare(tf.constant(examples.x), examples.labels, tf.constant([seed, 0]), binarize)
    return x, labels
