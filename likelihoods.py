"""p(x|z): what a decoder's output means as a distribution over data.

A likelihood turns the decoder's parameters, (batch, ..., channels * params_per_channel), into a log-probability in
nats, a mean and a sample. The objective knows nothing else about it.
"""

import math

import keras
import tensorflow as tf


class Likelihood(keras.layers.Layer):
    """The interface. A layer, so that a likelihood may own weights."""

    params_per_channel = 1

    def log_prob(self, x: tf.Tensor, params: tf.Tensor) -> tf.Tensor:
        """log p(x|z) of each example: (batch, ...) -> (batch,), in nats."""
        raise NotImplementedError

    def mean(self, params: tf.Tensor) -> tf.Tensor:
        """E[x|z], of the shape of the data."""
        raise NotImplementedError

    def params_of_mean(self, mean: tf.Tensor) -> tf.Tensor:
        """Parameters whose mean is `mean`, the inverse of `mean()`; for Bernoulli `mean` is strictly within (0, 1)."""
        raise NotImplementedError

    def sample(self, params: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """x ~ p(x|z), of the shape of the data; `seed` is an int32 tensor of shape (2,)."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Independent Bernoulli pixels, from logits (Kingma and Welling 2014, appendix C.1).

    Grey pixels in [0, 1] are allowed: `log_prob` is then the negative cross-entropy, which is the expected
    log-probability of the image binarized at random, and so comparable only with figures made the same way.
    """

    def log_prob(self, x, params):
        return -sum_per_example(tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=params))

    def mean(self, params):
        return tf.sigmoid(params)

    def params_of_mean(self, mean):
        return tf.math.log(mean) - tf.math.log1p(-mean)

    def sample(self, params, seed):
        uniform = tf.random.stateless_uniform(tf.shape(params), seed)
        return tf.cast(uniform < self.mean(params), params.dtype)


class Gaussian(Likelihood):
    """Independent Gaussians of one fixed scale: -log p is the squared error / (2 std^2), plus a constant."""

    def __init__(self, std: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.std = std

    def log_prob(self, x, params):
        log_normalizer = math.log(self.std) + 0.5 * math.log(2 * math.pi)
        return sum_per_example(-0.5 * tf.square((x - params) / self.std) - log_normalizer)

    def mean(self, params):
        return params

    def params_of_mean(self, mean):
        return mean

    def sample(self, params, seed):
        return params + self.std * tf.random.stateless_normal(tf.shape(params), seed)


def sum_per_example(values: tf.Tensor) -> tf.Tensor:
    """(batch, ...) -> (batch,)"""
    return tf.reduce_sum(values, axis=list(range(1, values.shape.rank)))


LIKELIHOODS = {"bernoulli": Bernoulli, "gaussian": Gaussian}
