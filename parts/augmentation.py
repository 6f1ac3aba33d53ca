"""Small changes of examples that leave their classes as they are.

Those in AUGMENTATIONS map images (batch, height, width, channels) and a seed, int32 of shape (2,), to images of that
shape. What comes in at the edges is black.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from parts.noise import normal

MOST_SHIFTED = 2  # pixels
MOST_TURNED, MOST_SCALED, MOST_SHEARED = math.radians(15), 0.15, 0.2  # the scale is that of its logarithm
LEAST_ERASED, MOST_ERASED = 0.2, 0.5  # of the height and of the width
# How far an adversarial change goes, as a share of the root of the examples' total variance. On MNIST, with pixels in
# [0, 1], 0.04 are 0.29; Miyato et al. (2016) have 0.3 for 100 labels.
SHARE_OF_IMAGES, SHARE_OF_POINTS = 0.04, 0.25
FIRST_SHARE = 0.1  # of that change, at random, at which the gradient is taken


def shifted(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each image moved by -2 to 2 whole pixels in both directions."""
    num, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    first = tf.random.stateless_uniform([2, num, 1], seed, 0, 2 * MOST_SHIFTED + 1, tf.int32, alg="philox")
    padded = tf.pad(images, [[0, 0], [MOST_SHIFTED, MOST_SHIFTED], [MOST_SHIFTED, MOST_SHIFTED], [0, 0]])
    rows = tf.gather(padded, first[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, first[1] + tf.range(width), axis=2, batch_dims=1)


def transformed(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each image turned by up to 15 degrees, scaled by up to 16 percent and sheared by up to a fifth, each direction on
    its own, and moved by up to 2 pixels, with linear interpolation between the pixels."""
    num, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    bits = tf.random.stateless_uniform([num, 6], seed, 0, 2**20 + 1, tf.int32, alg="philox")
    uniform = tf.cast(bits, tf.float32) * 2.0**-19 - 1.0  # in [-1, 1]; TensorFlow's floats are others under XLA
    turned, log_scale_x, log_scale_y, sheared, left, up = tf.unstack(uniform[..., None], axis=1)  # (batch, 1) each
    cos, sin = tf.cos(MOST_TURNED * turned), tf.sin(MOST_TURNED * turned)
    scale_x, scale_y = tf.exp(MOST_SCALED * log_scale_x), tf.exp(MOST_SCALED * log_scale_y)
    shear = MOST_SHEARED * sheared

    # Where each pixel of the result, (x, y) from the centre, comes from: (batch, height * width).
    y, x = (axis.reshape(-1).astype(np.float32) for axis in np.indices((height, width)))
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    from_x = scale_x * cos * x + scale_y * (shear * cos - sin) * y + (width - 1) / 2 + MOST_SHIFTED * left
    from_y = scale_x * sin * x + scale_y * (shear * sin + cos) * y + (height - 1) / 2 + MOST_SHIFTED * up
    return interpolated(images, from_x, from_y)


def erased(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each image with a black rectangle somewhere, a fifth to a half as high and as wide (Zhong et al. 2020, "Random
    erasing data augmentation")."""
    num, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    bits = tf.random.stateless_uniform([num, 4], seed, 0, 2**20, tf.int32, alg="philox")
    uniform = tf.cast(bits, tf.float32) * 2.0**-20
    size = LEAST_ERASED + (MOST_ERASED - LEAST_ERASED) * uniform[:, :2]  # (batch, 2), as shares of height and width
    first = (1.0 - size) * uniform[:, 2:]
    places = [(np.arange(length, dtype=np.float32) + 0.5) / length for length in (height, width)]
    rows, columns = (
        (place >= first[:, axis, None]) & (place < (first + size)[:, axis, None]) for axis, place in enumerate(places)
    )
    return tf.where((rows[:, :, None] & columns[:, None, :])[..., None], 0.0, images)


def transformed_and_erased(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each image `transformed`, and then `erased` in part."""
    return erased(transformed(images, seed), tf.random.experimental.stateless_fold_in(seed, 1))


def adversarial(x: tf.Tensor, seed: tf.Tensor, loss_of: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Each example moved as far as all others, in the direction in which its loss grows most (Miyato et al. 2016,
    "Distributional smoothing with virtual adversarial training", with one step of the power iteration). It needs no
    knowledge about images.

    Args:
        x: examples of any shape, (batch, ...).
        loss_of: such examples -> their mean loss, a scalar.
    """
    share = SHARE_OF_POINTS if len(x.shape) == 2 else SHARE_OF_IMAGES
    size = share * tf.sqrt(tf.reduce_sum(tf.math.reduce_variance(x, axis=0)))
    change = FIRST_SHARE * size * of_unit_length(normal(tf.shape(x), seed))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(change)
        loss = loss_of(x + change)
    return tf.stop_gradient(x + size * of_unit_length(tape.gradient(loss, change)))


def of_unit_length(x: tf.Tensor) -> tf.Tensor:
    """Each example of the batch over its Euclidean norm; 0 stays 0."""
    squares = tf.reduce_sum(tf.square(x), axis=tuple(range(1, len(x.shape))), keepdims=True)
    return x / tf.sqrt(tf.maximum(squares, 1e-30))


def interpolated(images: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The images at these places, (batch, height * width) each, by linear interpolation; black outside of them."""
    height, width, channels = images.shape[1:]
    padded_width = width + 3
    padded = tf.reshape(tf.pad(images, [[0, 0], [1, 2], [1, 2], [0, 0]]), (-1, (height + 3) * padded_width, channels))
    x, y = tf.clip_by_value(x, -1.0, float(width)), tf.clip_by_value(y, -1.0, float(height))
    left, top = tf.floor(x), tf.floor(y)
    place = tf.cast(padded_width * (top + 1.0) + left + 1.0, tf.int32)  # of the pixel to the upper left

    def pixels(offset: int) -> tf.Tensor:
        return tf.gather(padded, place + offset, axis=1, batch_dims=1)

    right, below = (x - left)[..., None], (y - top)[..., None]  # shares of the pixels on the right and below
    upper = (1.0 - right) * pixels(0) + right * pixels(1)
    lower = (1.0 - right) * pixels(padded_width) + right * pixels(padded_width + 1)
    return tf.reshape((1.0 - below) * upper + below * lower, (-1, height, width, channels))


AUGMENTATIONS = {"shift": shifted, "affine": transformed, "erase": transformed_and_erased}
