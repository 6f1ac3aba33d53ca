"""p(z) or p(z|y) as Keras layers: each scores codes and draws them. No objective in here."""

import math

import keras
import numpy as np
import tensorflow as tf

from parts.networks import LOGVAR_BOUND, bounded_logvar


class Prior(keras.layers.Layer):
    """The interface. `condition` is a batch of labels, or None where there are none."""

    rates_are_per_latent = True  # whether each summand of the rate belongs to one latent

    def __init__(self, latent_size: int, num_classes: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.latent_size = latent_size
        self.num_classes = num_classes  # classes of p(z|y); 0 for p(z)

    def log_prob(self, z: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """log p(z|y) in nats, as one summand for each latent: (batch, latent) -> (batch, latent)."""
        raise NotImplementedError

    def latent_rates(self, mean: tf.Tensor, logvar: tf.Tensor, z: tf.Tensor, condition=None) -> tf.Tensor:
        """KL(q(z|x) || p(z|y)) in nats, as one summand for each latent: (batch, latent).

        Without a closed form it is estimated at the sample z ~ q by log q(z|x) - log p(z|y), which is unbiased.
        """
        return normal_log_prob(z, mean, logvar) - self.log_prob(z, condition)

    def from_noise(self, noise: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """The code for this standard normal noise: (batch, latent) -> (batch, latent)."""
        raise NotImplementedError

    def to_noise(self, z: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """The inverse of `from_noise`: the part of the code that its label does not explain."""
        raise NotImplementedError

    def sample(self, num: int, seed: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """z ~ p(z|y): (num, latent)."""
        return self.from_noise(tf.random.stateless_normal((num, self.latent_size), seed, alg="philox"), condition)


class StandardNormalPrior(Prior):
    """p(z) = N(0, I), the same for every class."""

    def __init__(self, latent_size: int, num_classes: int = 0, **kwargs):
        super().__init__(latent_size, **kwargs)

    def log_prob(self, z, condition=None):
        return normal_log_prob(z)

    def latent_rates(self, mean, logvar, z, condition=None):
        """The closed form (Kingma and Welling 2014, appendix B)."""
        return 0.5 * (tf.exp(logvar) + tf.square(mean) - 1.0 - logvar)

    def from_noise(self, noise, condition=None):
        return noise

    def to_noise(self, z, condition=None):
        return z


class GaussianPrior(Prior):
    """p(z|y) = N(mean(y), diag(var(y))), both learned for each class."""

    def __init__(self, latent_size: int, num_classes: int = 0, **kwargs):
        super().__init__(latent_size, num_classes, **kwargs)
        # Classes start at different means. With equal ones they would have to break the symmetry first.
        self.means = self.add_weight(
            shape=(max(num_classes, 1), latent_size),
            initializer=keras.initializers.RandomNormal(stddev=1.0 if num_classes else 0.0),
            name="means",
        )
        self.logvars = self.add_weight(shape=self.means.shape, initializer="zeros", name="logvars")

    def moments(self, condition):
        """mean and logvar of p(z|y): (batch, latent) each, or (1, latent) without labels."""
        if condition is None:
            return self.means, bounded_logvar(self.logvars)
        return condition @ self.means, bounded_logvar(condition @ self.logvars)

    def log_prob(self, z, condition=None):
        return normal_log_prob(z, *self.moments(condition))

    def latent_rates(self, mean, logvar, z, condition=None):
        """The closed form of two Gaussians."""
        prior_mean, prior_logvar = self.moments(condition)
        distance = (tf.exp(logvar) + tf.square(mean - prior_mean)) * tf.exp(-prior_logvar)
        return 0.5 * (distance - 1.0 - logvar + prior_logvar)

    def from_noise(self, noise, condition=None):
        mean, logvar = self.moments(condition)
        return mean + tf.exp(0.5 * logvar) * noise

    def to_noise(self, z, condition=None):
        mean, logvar = self.moments(condition)
        return (z - mean) * tf.exp(-0.5 * logvar)


class FlowPrior(Prior):
    """An autoregressive flow from N(0, I), conditional on the label (Chen et al. 2016, section 3.2).

    Every step maps codes towards noise, and the order of the latents is reversed between steps. The density takes one
    parallel pass; sampling inverts the steps latent by latent. Each summand of `log_prob` is given to the latent at its
    place in the flow; only with one step is it log p(z_i | z_1 .. z_i-1).

    The log-variances of a step are squashed into (-logvar_bound, logvar_bound). The rate is the same for codes of every
    scale, so without a narrow bound or clipped gradients the scales may drift until the training diverges.
    """

    rates_are_per_latent = False

    def __init__(
        self,
        latent_size: int,
        num_classes: int = 0,
        num_steps: int = 4,
        hidden_width: int = 256,
        logvar_bound: float = LOGVAR_BOUND,
        **kwargs,
    ):
        super().__init__(latent_size, num_classes, **kwargs)
        width = max(hidden_width, latent_size)  # at least one unit per latent
        self.steps = [MaskedStep(latent_size, num_classes, width, logvar_bound) for _ in range(num_steps)]

    def log_prob(self, z, condition=None):
        noise, log_volume = self.flow(z, condition)
        log_prob = normal_log_prob(noise) + log_volume
        return log_prob if len(self.steps) % 2 == 0 else log_prob[:, ::-1]

    def to_noise(self, z, condition=None):
        return self.flow(z, condition)[0]

    def flow(self, z, condition):
        """The noise that z is mapped to, and each latent's summand of the log-determinant: (batch, latent) each."""
        log_volume = tf.zeros_like(z)
        for step in self.steps:
            mean, logvar = step(z, condition)
            z = (z - mean) * tf.exp(-0.5 * logvar)
            z, log_volume = z[:, ::-1], (log_volume - 0.5 * logvar)[:, ::-1]
        return z, log_volume

    @tf.function(reduce_retracing=True, autograph=False)  # whose conversion takes longer than the work
    def from_noise(self, noise, condition=None):
        z = noise
        for step in reversed(self.steps):
            z = step.invert(z[:, ::-1], condition)
        return z


class MixturePrior(Prior):
    """p(z|y) = prod_i p(z_i | z_1 .. z_i-1, y), each factor a mixture of Gaussians (Uria et al. 2013).

    It can leave gaps between codes, where a flow of affine steps has bridges. It is an autoregressive flow of one step
    too: each latent's noise is the standard normal quantile of its conditional distribution function.
    """

    NUM_COMPONENTS = 8
    BISECTIONS = 40

    def __init__(self, latent_size: int, num_classes: int = 0, hidden_width: int = 256, **kwargs):
        super().__init__(latent_size, num_classes, **kwargs)
        width = max(hidden_width, latent_size)  # at least one unit per latent
        self.network = MaskedNetwork(latent_size, num_classes, width, 3 * self.NUM_COMPONENTS)
        start = np.zeros((3, self.NUM_COMPONENTS, latent_size), np.float32)  # log-weights, means, log-variances
        start[1] = np.linspace(-2.0, 2.0, self.NUM_COMPONENTS)[:, None]  # equal components would stay equal
        self.network.bias_out.assign(start.reshape(-1))

    def mixtures(self, z, condition):
        """log-weights, means and log-variances of every p(z_i | ...): (batch, components, latent) each."""
        logits, means, raw_logvars = tf.split(self.network(z, condition), 3, axis=1)
        return tf.nn.log_softmax(logits, axis=1), means, bounded_logvar(raw_logvars)

    def log_prob(self, z, condition=None):
        log_weights, means, logvars = self.mixtures(z, condition)
        return tf.reduce_logsumexp(log_weights + normal_log_prob(z[:, None], means, logvars), axis=1)

    def to_noise(self, z, condition=None):
        below, above = tails(z, *self.mixtures(z, condition))
        return tf.where(below < above, tf.math.ndtri(below), -tf.math.ndtri(above))

    @tf.function(reduce_retracing=True, autograph=False)  # whose conversion takes longer than the work
    def from_noise(self, noise, condition=None):
        latents = tf.range(self.latent_size)

        def solve_next(i, z):
            mixture = [tf.gather(part, [i], axis=2) for part in self.mixtures(z, condition)]
            return i + 1, tf.where(latents == i, quantile(tf.gather(noise, [i], axis=1), *mixture), z)

        return tf.while_loop(lambda i, _: i < self.latent_size, solve_next, (0, tf.zeros_like(noise)))[1]


def tails(z, log_weights, means, logvars):
    """The probability of a mixture below and above z, (batch, latent) each; the smaller one is precise."""
    scaled = (z[:, None] - means) * tf.exp(-0.5 * logvars)
    return tuple(tf.reduce_sum(tf.exp(log_weights) * normal_cdf(side), axis=1) for side in (scaled, -scaled))


def quantile(noise, log_weights, means, logvars):
    """The z at which a mixture's distribution function is that of N(0, 1) at `noise`, by bisection: (batch, latent)."""
    spread = 10.0 * tf.exp(0.5 * logvars)
    low, high = tf.reduce_min(means - spread, axis=1), tf.reduce_max(means + spread, axis=1)
    wanted_below, wanted_above = normal_cdf(noise), normal_cdf(-noise)
    for _ in range(MixturePrior.BISECTIONS):
        middle = 0.5 * (low + high)
        below, above = tails(middle, log_weights, means, logvars)
        is_left = below * wanted_above < above * wanted_below  # precise in both tails
        low, high = tf.where(is_left, middle, low), tf.where(is_left, high, middle)
    return 0.5 * (low + high)


def normal_cdf(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * tf.math.erfc(-x / math.sqrt(2.0))


class MaskedNetwork(keras.layers.Layer):
    """A MADE with one hidden layer (Germain et al. 2015, eq. 8-9): `num_outputs` for each latent, which depend on the
    latents before it and the label. The kernels of its last layer start at zero."""

    def __init__(self, latent_size: int, num_classes: int, hidden_width: int, num_outputs: int, **kwargs):
        super().__init__(**kwargs)
        self.shape_out = num_outputs, latent_size
        order = np.arange(latent_size)
        reach = np.arange(hidden_width) * max(latent_size - 1, 1) // hidden_width  # the last latent that a unit sees
        self.mask_in = (order[:, None] <= reach[None, :]).astype(np.float32)
        self.mask_out = np.tile(reach[:, None] < order[None, :], num_outputs).astype(np.float32)
        size = num_outputs * latent_size
        self.kernel_in = self.add_weight(shape=self.mask_in.shape, name="kernel_in")
        self.kernel_out = self.add_weight(shape=self.mask_out.shape, initializer="zeros", name="kernel_out")
        self.bias_in = self.add_weight(shape=(hidden_width,), initializer="zeros", name="bias_in")
        self.bias_out = self.add_weight(shape=(size,), initializer="zeros", name="bias_out")
        if num_classes:
            self.label_in = self.add_weight(shape=(num_classes, hidden_width), name="label_in")
            self.label_out = self.add_weight(shape=(num_classes, size), initializer="zeros", name="label_out")

    def call(self, z, condition=None):
        """(batch, latent) -> (batch, num_outputs, latent)"""
        bias_in, bias_out = self.bias_in, self.bias_out
        if condition is not None:
            bias_in, bias_out = bias_in + condition @ self.label_in, bias_out + condition @ self.label_out
        h = elu(z @ (self.kernel_in * self.mask_in) + bias_in)
        return tf.reshape(h @ (self.kernel_out * self.mask_out) + bias_out, (-1, *self.shape_out))


class MaskedStep(MaskedNetwork):
    """mean and logvar of each z_i given the latents before it and the label. A flow of such steps starts as the
    identity."""

    def __init__(self, latent_size: int, num_classes: int, hidden_width: int, logvar_bound: float, **kwargs):
        super().__init__(latent_size, num_classes, hidden_width, num_outputs=2, **kwargs)
        self.logvar_bound = logvar_bound

    def call(self, z, condition=None):
        """z: (batch, latent) -> mean, logvar: (batch, latent) each."""
        mean, raw_logvar = tf.unstack(super().call(z, condition), axis=1)
        return mean, self.logvar_bound * tf.tanh(raw_logvar / self.logvar_bound)

    def invert(self, noise, condition=None):
        """The z whose standardization (z - mean) / std is `noise`."""
        num = noise.shape[1]
        latents = tf.range(num)

        def solve_next(i, z):
            mean, logvar = self(z, condition)
            return i + 1, tf.where(latents == i, mean + tf.exp(0.5 * logvar) * noise, z)

        return tf.while_loop(lambda i, _: i < num, solve_next, (0, tf.zeros_like(noise)))[1]


def elu(x: tf.Tensor) -> tf.Tensor:
    """As tf.nn.elu. TensorFlow's graph optimizer fails to fuse that op in the flow of a CVAE, and prints errors."""
    return tf.where(x > 0, x, tf.math.expm1(tf.minimum(x, 0.0)))


def normal_log_prob(z: tf.Tensor, mean: tf.Tensor | float = 0.0, logvar: tf.Tensor | float = 0.0) -> tf.Tensor:
    """log N(z; mean, exp(logvar)), elementwise."""
    return -0.5 * (tf.square(z - mean) * tf.exp(-logvar) + logvar + math.log(2 * math.pi))


PRIORS = {"standard": StandardNormalPrior, "gaussian": GaussianPrior, "flow": FlowPrior, "mixture": MixturePrior}
