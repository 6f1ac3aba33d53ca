"""The variational autoencoder and its conditional sibling as keras.Models with custom train and test steps.

Notation (Kingma and Welling 2014): the encoder gives the posterior q(z|x), the prior is p(z), the decoder with the
likelihood gives p(x|z). All terms are in nats per example:

    distortion = -log p(x|z)                    z ~ q(z|x)
    rate       = KL(q(z|x) || p(z))
    elbo       = -(distortion + rate) <= log p(x)
    loss       = distortion + beta * rate       averaged over the batch; also warm-up and free bits, never in the elbo
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from likelihoods import LIKELIHOODS, Likelihood, sum_per_example
from networks import NETWORKS, Decoder, StandardNormalPrior


class VAE(keras.Model):
    """q(z|x), p(z) = N(0, I), p(x|z).

    Args:
        encoder, decoder, prior, likelihood: the parts, see networks.py and likelihoods.py.
        beta: weight of the rate in the loss (Higgins et al. 2017).
        warmup_steps: training steps over which that weight grows linearly from 0 to beta.
        free_bits: nats that each latent may spend before its rate counts in the loss (Kingma et al. 2016, eq. 15).

    Batches are (x, labels, seed): data (batch, ...) float32, labels (batch, classes) float32, and the int32 seed of
    shape (2,) from which all noise of the step is drawn, so that a step is a pure function of weights and batch.
    """

    is_conditional = False

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        prior: keras.layers.Layer,
        likelihood: Likelihood,
        *,
        beta: float = 1.0,
        warmup_steps: int = 0,
        free_bits: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.likelihood = likelihood
        self.beta = beta
        self.warmup_steps = warmup_steps
        self.free_bits = free_bits
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "elbo", "rate", "distortion")]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self.trackers

    def condition(self, labels: tf.Tensor | None) -> tf.Tensor | None:
        """What the encoder and decoder are given besides x and z: nothing."""
        return None

    # Objective

    def terms(self, x: tf.Tensor, labels: tf.Tensor | None, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The terms of the bound at one sample z ~ q(z|x): distortion (batch,), rate of each latent (batch, latent)."""
        condition = self.condition(labels)
        mean, logvar = self.encoder(x, condition)
        z = reparameterize(mean, logvar, seed)
        distortion = -self.likelihood.log_prob(x, self.decoder(z, condition))
        return distortion, self.prior.latent_rates(mean, logvar, z, condition)

    def objective(self, distortion: tf.Tensor, latent_rates: tf.Tensor) -> tf.Tensor:
        """The training loss of a batch: a scalar, in nats per example."""
        rates = tf.reduce_mean(latent_rates, axis=0)  # (latent,)
        if self.free_bits > 0:
            rates = tf.maximum(rates, self.free_bits)
        return tf.reduce_mean(distortion) + self.rate_weight() * tf.reduce_sum(rates)

    def rate_weight(self) -> tf.Tensor | float:
        """beta, or the share of it that the warm-up has reached."""
        if self.warmup_steps == 0:
            return self.beta
        step = tf.cast(self.optimizer.iterations, tf.float32)
        return self.beta * tf.minimum(1.0, step / self.warmup_steps)

    def train_step(self, data):
        x, labels, seed = data
        with tf.GradientTape() as tape:
            distortion, latent_rates = self.terms(x, labels, seed)
            loss = self.objective(distortion, latent_rates)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.track(loss, distortion, latent_rates)

    def test_step(self, data):
        x, labels, seed = data
        distortion, latent_rates = self.terms(x, labels, seed)
        return self.track(self.objective(distortion, latent_rates), distortion, latent_rates)

    def track(self, loss, distortion, latent_rates) -> dict[str, tf.Tensor]:
        """Add a batch to the running means; every example counts the same, also in a smaller last batch."""
        rate = sum_per_example(latent_rates)
        losses = tf.fill(tf.shape(rate), loss)
        for tracker, values in zip(self.trackers, (losses, -(distortion + rate), rate, distortion), strict=True):
            tracker.update_state(values)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    def start_at_mean(self, mean: tf.Tensor) -> None:
        """Let an untrained decoder answer every code with something near the data's mean, (height, width, channels)."""
        self.decoder.offset.assign(self.likelihood.params_of_mean(mean))

    # Use of a trained model

    def call(self, x, labels=None):
        return self.reconstruct(x, labels)

    def encode(self, x: tf.Tensor, labels: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """x (batch, ...) -> mean and logvar of q(z|x), (batch, latent) each."""
        return self.encoder(x, self.condition(labels))

    def decode(self, z: tf.Tensor, labels: tf.Tensor | None = None) -> tf.Tensor:
        """z (batch, latent) -> the mean of p(x|z), of the shape of the data."""
        return self.likelihood.mean(self.decoder(z, self.condition(labels)))

    def reconstruct(self, x: tf.Tensor, labels: tf.Tensor | None = None) -> tf.Tensor:
        """The mean of p(x|z) at the posterior mean of z."""
        mean, _ = self.encode(x, labels)
        return self.decode(mean, labels)

    def sample(self, num: int, labels: tf.Tensor | None = None, seed: int = 0, *, show_mean: bool = True) -> tf.Tensor:
        """`num` draws z ~ p(z), each shown as the mean of p(x|z) or as a draw from it; the same for the same seed."""
        condition = self.condition(labels)
        z = self.prior.sample(num, tf.constant([seed, 0]), condition)
        params = self.decoder(z, condition)
        return self.likelihood.mean(params) if show_mean else self.likelihood.sample(params, tf.constant([seed, 1]))


class CVAE(VAE):
    """q(z|x, y), p(z) = N(0, I), p(x|z, y): the one-hot label y is given to encoder and decoder (Sohn et al. 2015)."""

    is_conditional = True

    def condition(self, labels):
        if labels is None:
            raise ValueError("a conditional model needs labels, one-hot, (batch, classes)")
        return labels


def reparameterize(mean: tf.Tensor, logvar: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """z = mean + std * noise, differentiable in mean and logvar (Kingma and Welling 2014, eq. 4)."""
    noise = tf.random.stateless_normal(tf.shape(mean), seed, alg="philox")
    return mean + tf.exp(0.5 * logvar) * noise


MODELS = {"vae": VAE, "cvae": CVAE}


def build_model(
    model: str,
    *,
    data_shape: Sequence[int],
    num_classes: int = 0,
    latent_size: int = 15,
    network: str = "mlp",
    hidden_dims: Sequence[int] | None = None,
    activation: str = "gelu",
    likelihood: str = "bernoulli",
    **objective,
) -> VAE:
    """A model with its weights, from plain values; a checkpoint stores them as `model.arguments`.

    Args:
        model, network, likelihood: names in MODELS, NETWORKS and LIKELIHOODS.
        data_shape: (height, width, channels) of an image, or (2,) for points.
        num_classes: width of the one-hot labels.
        objective: beta, warmup_steps, free_bits; see VAE.

    Raises:
        ValueError: for parts that do not fit the data.
    """
    parts = NETWORKS[network]
    widths = tuple(hidden_dims or parts["hidden_dims"])
    p_x = LIKELIHOODS[likelihood]()
    output_shape = (*data_shape[:-1], data_shape[-1] * p_x.params_per_channel)
    built = MODELS[model](
        parts["encoder"](widths, latent_size, activation),
        Decoder(parts["decoder"](widths, output_shape, activation), output_shape),
        StandardNormalPrior(latent_size),
        p_x,
        **objective,
    )
    built.reconstruct(tf.zeros((1, *data_shape)), tf.zeros((1, num_classes)))  # creates the weights
    built.built = True
    built.arguments = {
        "model": model,
        "data_shape": list(data_shape),
        "num_classes": num_classes,
        "latent_size": latent_size,
        "network": network,
        "hidden_dims": list(widths),
        "activation": activation,
        "likelihood": likelihood,
    }
    return built
