"""Noise from a seed, the same up to rounding whether XLA compiles what draws it or not.

Of TensorFlow's own draws that is true of integers only: XLA makes other floats of the same bits.
"""

import math

import tensorflow as tf


def normal(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """N(0, I), float32 (Box and Muller 1958); what begins a draw is also the draw of fewer rows.

    seed: an int32 tensor of shape (2,). Up to rounding, tf.random.stateless_normal gives the same outside of XLA.
    """
    size = tf.reduce_prod(shape)
    bits = tf.random.stateless_uniform([(size + 1) // 2, 2], seed, None, None, tf.uint32, alg="philox")
    uniform = tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) * 2.0**-23
    u, v = tf.unstack(uniform, axis=1)
    radius, angle = tf.sqrt(-2.0 * tf.math.log(tf.maximum(u, 1e-7))), 2.0 * math.pi * v
    pairs = tf.stack([radius * tf.sin(angle), radius * tf.cos(angle)], axis=1)
    return tf.reshape(tf.reshape(pairs, [-1])[:size], shape)
