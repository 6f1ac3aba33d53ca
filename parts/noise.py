"""Noise from a seed, the same with XLA and without, up to rounding.

TensorFlow's own random integers are the same, but not its floats: XLA makes other floats from the same bits.
"""

import math

import tensorflow as tf


def normal(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """N(0, I), float32 (Box and Muller 1958); fewer rows from the same seed are the first rows.

    seed: an int32 tensor of shape (2,). Up to rounding, tf.random.stateless_normal gives the same outside of XLA.
    """
    size = tf.reduce_prod(shape)
    bits = tf.random.stateless_uniform([(size + 1) // 2, 2], seed, None, None, tf.uint32, alg="philox")
    uniform = tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) * 2.0**-23
    u, v = tf.unstack(uniform, axis=1)
    radius, angle = tf.sqrt(-2.0 * tf.math.log(tf.maximum(u, 1e-7))), 2.0 * math.pi * v
    pairs = tf.stack([radius * tf.sin(angle), radius * tf.cos(angle)], axis=1)
    return tf.reshape(tf.reshape(pairs, [-1])[:size], shape)
