"""p(x|z): what a decoder's output means as a distribution over data.

A likelihood turns the decoder's parameters, (batch, ..., channels * params_per_channel), into a log-probability in
nats, a mean and a sample. The objective knows nothing else about it.

For images x is scaled to [0, 1], so densities (`gaussian`, `sigma`) are per unit of that scale; `logistic` gives
probabilities of the 256 levels.
"""

import math

import keras
import tensorflow as tf

from parts import catalogue


class Likelihood(keras.layers.Layer):
    """The interface. A layer, so that a likelihood may own weights."""

    params_per_channel = 1
    has_learned_scale = False  # one for all of x, so that a draw from p(x|z) looks like data and not like noise
    has_mean = True  # in closed form
    # The pixels of which p(x|z) is a probability: "binary", or "levels" for 256 levels; None where it is a density.
    pixels: str | None = None

    def log_prob(self, x: tf.Tensor, params: tf.Tensor) -> tf.Tensor:
        """log p(x|z) of each example: (batch, ...) -> (batch,), in nats."""
        return sum_per_example(self.log_probs(x, params))

    def log_probs(self, x: tf.Tensor, params: tf.Tensor) -> tf.Tensor:
        """The summands of `log_prob`, one for each dimension of x: of the shape of the data, in nats. Where the
        dimensions have an order, each is given those before it."""
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

    def fill_in(self, x: tf.Tensor, known: tf.Tensor, params: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """x where `known`, and elsewhere draws from p(x|z), each given the dimensions before it, known or drawn.

        x and known (bool) are of the shape of the data; known colour pixels are known in all channels.
        """
        return tf.where(known, x, self.sample(params, seed))

    def of_colour_pixels(self) -> "Likelihood":
        """The distribution of one pixel of a colour image in an autoregressive likelihood."""
        return self


class Bernoulli(Likelihood):
    """Independent Bernoulli pixels, from logits (Kingma and Welling 2014, appendix C.1).

    Grey pixels in [0, 1] are allowed: `log_prob` is then the negative cross-entropy, which is the expected
    log-probability of the image binarized at random, and so comparable only with figures made the same way.
    """

    pixels = "binary"

    def log_probs(self, x, params):
        return -tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=params)

    def mean(self, params):
        return tf.sigmoid(params)

    def params_of_mean(self, mean):
        return tf.math.log(mean) - tf.math.log1p(-mean)

    def sample(self, params, seed):
        return self.draw(params, tf.random.stateless_uniform(tf.shape(params), seed))

    def draw(self, params, uniform):
        """The sample for this uniform noise, which has the shape of the data."""
        return tf.cast(uniform < self.mean(params), params.dtype)


class Gaussian(Likelihood):
    """Independent Gaussians of one fixed scale: -log p is the squared error / (2 std^2), plus a constant."""

    def __init__(self, std: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.std = std

    def log_probs(self, x, params):
        log_normalizer = math.log(self.std) + 0.5 * math.log(2 * math.pi)
        return -0.5 * tf.square((x - params) / self.std) - log_normalizer

    def mean(self, params):
        return params

    def params_of_mean(self, mean):
        return mean

    def sample(self, params, seed):
        return params + self.std * tf.random.stateless_normal(tf.shape(params), seed)


class Sigma(Likelihood):
    """Independent Gaussians of one learned scale, the same for all of x (Rybkin et al. 2021).

    The scale takes the place of a hand-made beta: at its optimum it is the root of the mean squared error. It starts
    small: at a scale as large as the spread of the data, codes hardly help at first, and the posterior collapses.
    """

    has_learned_scale = True
    FIRST_LOG_STD = math.log(0.1)
    LEAST_LOG_STD = -7.0  # approached softly: data without noise would have an infinite density
    SPEED = 10.0  # log_std per unit of its weight, so that it keeps up with an error that falls by orders of magnitude

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.weight = self.add_weight(shape=(), initializer="zeros", name="log_std_weight")

    def log_std(self) -> tf.Tensor:
        """A scalar, near FIRST_LOG_STD before training."""
        raw = self.FIRST_LOG_STD + self.SPEED * self.weight
        return self.LEAST_LOG_STD + tf.nn.softplus(raw - self.LEAST_LOG_STD)

    def log_probs(self, x, params):
        log_std = self.log_std()
        log_normalizer = log_std + 0.5 * math.log(2 * math.pi)
        return -0.5 * tf.square((x - params) * tf.exp(-log_std)) - log_normalizer

    def mean(self, params):
        return params

    def params_of_mean(self, mean):
        return mean

    def sample(self, params, seed):
        return params + tf.exp(self.log_std()) * tf.random.stateless_normal(tf.shape(params), seed)


class DiscretizedLogistic(Likelihood):
    """Logistic distributions rounded to the 256 levels 0, 1/255, ..., 1, one for each channel of each pixel.

    What lies beyond 0 and 1 counts for the outermost levels (Salimans et al. 2017, eq. 2), so the probabilities of the
    levels sum to one, and -log_prob / (dimensions * log 2) is the bits/dim of published figures. The parameters are
    means and log-scales, in this order on the last axis.
    """

    params_per_channel = 2
    pixels = "levels"
    LEVELS = 256
    LOG_SCALES = (-7.0, 7.0)  # from a quarter of a level to where all levels are alike
    FIRST_SCALE = 0.1

    def location_and_log_scale(self, params):
        location, log_scale = tf.split(params, 2, axis=-1)
        return location, tf.clip_by_value(log_scale, *self.LOG_SCALES)

    def log_probs(self, x, params):
        return self.log_probs_of_levels(x, *self.location_and_log_scale(params))

    def log_probs_of_levels(self, x, location, log_scale):
        """With s the logistic function and a < b the standardized edges of x's level,
        s(b) - s(a) = s(b) s(-a) (1 - exp(a - b))."""
        half = 0.5 / (self.LEVELS - 1)
        inverse_scale = tf.exp(-log_scale)
        log_below_upper = tf.math.log_sigmoid((x + half - location) * inverse_scale)
        log_above_lower = tf.math.log_sigmoid((location - x + half) * inverse_scale)
        log_between = tf.math.log(-tf.math.expm1(-2.0 * half * inverse_scale))
        inner = log_below_upper + log_above_lower + log_between
        return tf.where(x < half, log_below_upper, tf.where(x > 1.0 - half, log_above_lower, inner))

    def mean(self, params):
        """The mean of the logistic clipped to [0, 1]: within half a level of that of the rounded one."""
        location, log_scale = self.location_and_log_scale(params)
        scale = tf.exp(log_scale)
        return scale * (tf.nn.softplus(location / scale) - tf.nn.softplus((location - 1.0) / scale))

    def params_of_mean(self, mean):
        s = self.FIRST_SCALE
        location = s * (tf.math.log(tf.math.expm1(mean / s)) - tf.math.log(-tf.math.expm1((mean - 1.0) / s)))
        return tf.concat([location, tf.fill(tf.shape(mean), math.log(s))], axis=-1)

    def sample(self, params, seed):
        shape = tf.concat([tf.shape(params)[:-1], [params.shape[-1] // self.params_per_channel]], axis=0)
        return self.draw(params, tf.random.stateless_uniform(shape, seed, minval=1e-7))

    def draw(self, params, uniform):
        """The sample for this uniform noise above 0, which has the shape of the data."""
        return self.quantile(*self.location_and_log_scale(params), uniform)

    def of_colour_pixels(self):
        return ColourLogistic()

    def quantile(self, location, log_scale, uniform):
        """The level at the quantile `uniform` of the distribution."""
        x = location + tf.exp(log_scale) * (tf.math.log(uniform) - tf.math.log1p(-uniform))
        return tf.round(tf.clip_by_value(x, 0.0, 1.0) * (self.LEVELS - 1)) / (self.LEVELS - 1)


class ColourLogistic(DiscretizedLogistic):
    """The channels of a pixel in order: the means of green and blue are shifted in proportion to the channels before
    them (Salimans et al. 2017, section 2.2).

    The parameters are means, log-scales and three slopes: green on red, blue on red, blue on green. Without a mean in
    closed form it serves only as the pixel of an autoregressive likelihood.
    """

    params_per_channel = 3
    has_mean = False

    def log_probs(self, x, params):
        location, log_scale, slopes = self.split(params)
        return self.log_probs_of_levels(x, location + self.shift(x, slopes), log_scale)

    def draw(self, params, uniform):
        location, log_scale, slopes = self.split(params)
        x = self.quantile(location, log_scale, uniform)  # red is final; each pass makes one more channel final
        for _ in range(2):
            x = self.quantile(location + self.shift(x, slopes), log_scale, uniform)
        return x

    def split(self, params):
        """means, log-scales, slopes: (..., 3) each"""
        location, log_scale, slopes = tf.split(params, 3, axis=-1)
        return location, tf.clip_by_value(log_scale, *self.LOG_SCALES), slopes

    def shift(self, x, slopes):
        red, green, _ = tf.unstack(x - 0.5, axis=-1)
        red_to_green, red_to_blue, green_to_blue = tf.unstack(slopes, axis=-1)
        shifts = tf.zeros_like(red), red_to_green * red, red_to_blue * red + green_to_blue * green
        return tf.stack(shifts, axis=-1)

    def params_of_mean(self, mean):
        return tf.concat([super().params_of_mean(mean), tf.zeros_like(mean)], axis=-1)


def sum_per_example(values: tf.Tensor) -> tf.Tensor:
    """(batch, ...) -> (batch,)"""
    return tf.reduce_sum(values, axis=list(range(1, values.shape.rank)))


LIKELIHOODS = {name: globals()[entry.class_name] for name, entry in catalogue.LIKELIHOODS.items()}
