"""A model whose log p(x) is known: p(x) = N(bias, W W^T + std^2 I)."""

import keras
import numpy as np
import tensorflow as tf

import vae
from parts.likelihoods import Gaussian
from parts.priors import StandardNormalPrior

DATA, LATENTS, STD = 5, 2, 0.5


class LinearEncoder(keras.layers.Layer):
    """A posterior that is not the true one: its mean is off, and its variances ignore the correlation."""

    def __init__(self, gain, bias):
        super().__init__()
        self.gain, self.bias = gain, bias

    def call(self, x, condition=None):
        mean = 1.3 * (x - self.bias) @ self.gain + 0.1
        return mean, tf.fill(tf.shape(mean), np.float32(np.log(0.1)))


class LinearDecoder(keras.layers.Layer):
    def __init__(self, weights, bias):
        super().__init__()
        self.matrix, self.bias = weights, bias

    def call(self, z, condition=None):
        return z @ self.matrix + self.bias


def build() -> tuple[vae.VAE, np.random.Generator, np.ndarray, np.ndarray]:
    """The model, a generator of random numbers, W (latents, data) and the bias."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(LATENTS, DATA)).astype(np.float32)
    bias = rng.normal(size=DATA).astype(np.float32)
    posterior = np.linalg.inv(np.eye(LATENTS) + weights @ weights.T / STD**2)
    gain = (weights.T @ posterior / STD**2).astype(np.float32)
    encoder, decoder = LinearEncoder(gain, bias), LinearDecoder(weights, bias)
    return vae.VAE(encoder, decoder, StandardNormalPrior(LATENTS), Gaussian(STD)), rng, weights, bias
