import math

import numpy as np
import pytest
import tensorflow as tf

from likelihoods import LIKELIHOODS, Bernoulli, Gaussian

SEED = tf.constant([1, 2])


def test_bernoulli_probabilities_of_all_binary_images_sum_to_one():
    images = np.array([[(i >> bit) & 1 for bit in range(9)] for i in range(512)], np.float32).reshape(-1, 3, 3, 1)
    logits = tf.random.stateless_normal((1, 3, 3, 1), SEED) * 3
    log_probs = Bernoulli().log_prob(images, tf.repeat(logits, 512, axis=0))
    assert log_probs.shape == (512,)
    assert float(tf.reduce_logsumexp(log_probs)) == pytest.approx(0, abs=1e-4)


def test_bernoulli_of_grey_pixels_is_the_expected_log_prob_of_their_binarizations():
    grey = tf.constant([[0.3, 0.9]])
    logits = tf.constant([[0.7, -1.2]])
    expected = 0.0
    for a in (0.0, 1.0):
        for b in (0.0, 1.0):
            probability = (0.3 if a else 0.7) * (0.9 if b else 0.1)
            expected += probability * float(Bernoulli().log_prob(tf.constant([[a, b]]), logits)[0])
    assert float(Bernoulli().log_prob(grey, logits)[0]) == pytest.approx(expected, rel=1e-5)


def test_bernoulli_stays_finite_at_extreme_logits():
    x = tf.constant([[0.0, 1.0, 0.0, 1.0]])
    logits = tf.Variable([[200.0, 200.0, -200.0, -200.0]])
    with tf.GradientTape() as tape:
        log_prob = Bernoulli().log_prob(x, logits)
    assert float(log_prob[0]) == pytest.approx(-400)
    assert np.isfinite(tape.gradient(log_prob, logits)).all()


def test_gaussian_density_integrates_to_one():
    x = np.linspace(-6, 7, 4001, dtype=np.float32)[:, None]
    density = np.exp(Gaussian(std=0.7).log_prob(x, np.full_like(x, 0.4)))
    assert float(density.sum() * (x[1, 0] - x[0, 0])) == pytest.approx(1, abs=1e-3)


def test_gaussian_is_the_squared_error_up_to_a_constant():
    x, params = tf.random.stateless_normal((5, 4, 4, 1), SEED), tf.random.stateless_normal((5, 4, 4, 1), SEED + 1)
    squared_error = np.sum(np.square(x - params), axis=(1, 2, 3))
    constant = 16 * 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(-Gaussian().log_prob(x, params), 0.5 * squared_error + constant, rtol=1e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_samples_have_the_mean_that_params_of_mean_asks_for(name):
    likelihood = LIKELIHOODS[name]()
    mean = tf.constant([[0.1, 0.5, 0.85]])
    params = likelihood.params_of_mean(mean)
    np.testing.assert_allclose(likelihood.mean(params), mean, rtol=1e-5)
    samples = likelihood.sample(tf.repeat(params, 20_000, axis=0), SEED)
    np.testing.assert_allclose(np.mean(samples, axis=0), mean[0], atol=0.03)
