import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from parts.likelihoods import LIKELIHOODS, Bernoulli, ColourLogistic, DiscretizedLogistic, Gaussian, Sigma

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


@pytest.mark.parametrize("likelihood", [*(make() for make in LIKELIHOODS.values()), ColourLogistic()])
def test_the_log_prob_is_the_sum_of_a_summand_for_each_dimension(likelihood):
    x = np.round(np.random.default_rng(0).random((4, 2, 5, 3))).astype(np.float32)
    params = tf.random.stateless_normal((4, 2, 5, 3 * likelihood.params_per_channel), SEED)
    log_probs = likelihood.log_probs(x, params)
    assert log_probs.shape == x.shape
    np.testing.assert_allclose(np.sum(log_probs, axis=(1, 2, 3)), likelihood.log_prob(x, params), rtol=1e-5)
    x[:, 1, 4] = 1 - x[:, 1, 4]
    differs = (likelihood.log_probs(x, params) != log_probs).numpy().any(axis=-1)
    assert differs[:, 1, 4].all()
    assert differs.sum() == 4, "no other pixel"


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_filling_in_keeps_what_is_known_and_draws_the_rest(name):
    likelihood = LIKELIHOODS[name]()
    known = np.random.default_rng(0).random((50, 6)) < 0.5
    x = tf.fill((50, 6), 0.25)
    params = likelihood.params_of_mean(tf.fill((50, 6), 0.6))
    filled = likelihood.fill_in(x, known, params, SEED).numpy()
    assert (filled[known] == 0.25).all()
    np.testing.assert_array_equal(filled[~known], likelihood.sample(params, SEED).numpy()[~known])


# Discretized logistic

LEVELS = np.arange(256, dtype=np.float32) / 255


def logistic_params(location, log_scale, num=256):
    return tf.tile(tf.constant([[location, log_scale]], tf.float32), (num, 1))


@pytest.mark.parametrize("location", [-0.5, 0.0, 0.3137, 0.999, 1.7])
@pytest.mark.parametrize("log_scale", [-20.0, -7.0, -5.0, -2.0, 0.0, 3.0])
def test_probabilities_of_the_256_levels_sum_to_one(location, log_scale):
    log_probs = DiscretizedLogistic().log_prob(LEVELS[:, None], logistic_params(location, log_scale))
    assert float(tf.reduce_logsumexp(log_probs)) == pytest.approx(0, abs=1e-4)


def test_the_probability_of_a_level_is_the_difference_of_two_logistic_functions():
    location, scale = 0.4, 0.03
    edges = (np.arange(257) - 0.5) / 255
    cdf = 1 / (1 + np.exp(-(edges - location) / scale))
    cdf[0], cdf[-1] = 0, 1
    log_probs = DiscretizedLogistic().log_prob(LEVELS[:, None], logistic_params(location, math.log(scale)))
    np.testing.assert_allclose(np.exp(log_probs), np.diff(cdf), rtol=1e-3, atol=1e-9)


def test_each_channel_has_its_own_mean_and_scale():
    """Means come first on the last axis, then log-scales."""
    x = tf.constant([[[[0.2, 0.6]]]])
    params = tf.constant([[[[0.2, 0.6, -3.0, -5.0]]]])
    both = DiscretizedLogistic().log_prob(x, params)
    first = DiscretizedLogistic().log_prob(x[..., :1], tf.constant([[[[0.2, -3.0]]]]))
    second = DiscretizedLogistic().log_prob(x[..., 1:], tf.constant([[[[0.6, -5.0]]]]))
    np.testing.assert_allclose(both, first + second, rtol=1e-6)


def test_the_logistic_stays_finite_where_a_level_is_hopeless():
    x = tf.constant([[0.0], [1.0], [0.5], [0.5]])
    params = tf.Variable([[9.0, -7.0], [-9.0, -7.0], [9.0, -30.0], [0.5, -30.0]])
    with tf.GradientTape() as tape:
        log_prob = DiscretizedLogistic().log_prob(x, params)
    assert np.isfinite(log_prob).all()
    assert np.isfinite(tape.gradient(log_prob, params)).all()


def test_samples_of_the_logistic_are_levels_as_often_as_they_are_probable():
    params = logistic_params(0.02, math.log(0.01), 200_000)
    samples = DiscretizedLogistic().sample(params, SEED).numpy()[:, 0]
    levels = np.rint(samples * 255).astype(int)
    np.testing.assert_allclose(samples, levels / 255, atol=1e-6)
    frequencies = np.bincount(levels, minlength=256) / len(levels)
    probabilities = np.exp(DiscretizedLogistic().log_prob(LEVELS[:, None], logistic_params(0.02, math.log(0.01))))
    np.testing.assert_allclose(frequencies, probabilities, atol=5 * math.sqrt(0.1 / 200_000))


def test_colours_are_drawn_as_often_as_they_are_probable(monkeypatch):
    """All 64 colours of 4 levels, with slopes that matter: green follows red, blue both."""
    monkeypatch.setattr(ColourLogistic, "LEVELS", 4)
    colours, num = np.array(list(itertools.product(np.arange(4) / 3, repeat=3)), np.float32), 100_000
    params = tf.constant([[[[0.3, 0.5, 0.6, -1.5, -2.0, -2.5, 0.8, -0.5, 1.2]]]])
    p_x = ColourLogistic()
    probabilities = np.exp(p_x.log_prob(colours.reshape(-1, 1, 1, 3), tf.repeat(params, 64, axis=0)))
    drawn = p_x.sample(tf.repeat(params, num, axis=0), SEED).numpy().reshape(num, 3)
    digits = np.rint(drawn * 3).astype(int) @ [16, 4, 1]
    frequencies = np.bincount(digits, minlength=64) / num
    np.testing.assert_allclose(frequencies, probabilities, atol=5 * np.sqrt(0.1 / num))
    by_red = np.array([drawn[drawn[:, 0] == red, 1].mean() for red in (0, 1)])
    assert by_red[1] > by_red[0] + 0.2


@pytest.mark.parametrize(("location", "log_scale"), [(0.5, -2.0), (0.0, -3.0), (1.1, -2.5), (0.3, -7.0)])
def test_the_mean_of_the_logistic_is_within_half_a_level(location, log_scale):
    probabilities = np.exp(DiscretizedLogistic().log_prob(LEVELS[:, None], logistic_params(location, log_scale)))
    mean = float(DiscretizedLogistic().mean(logistic_params(location, log_scale, 1))[0, 0])
    assert mean == pytest.approx(float(np.sum(probabilities * LEVELS)), abs=0.5 / 255)


# Learned scale


def test_sigma_is_the_gaussian_of_its_scale():
    x, params = tf.random.stateless_normal((5, 3, 2, 1), SEED), tf.random.stateless_normal((5, 3, 2, 1), SEED + 1)
    sigma = Sigma()
    for weight in (0.0, 0.2, -0.3):
        sigma.weight.assign(weight)
        gaussian = Gaussian(std=float(tf.exp(sigma.log_std())))
        np.testing.assert_allclose(sigma.log_prob(x, params), gaussian.log_prob(x, params), rtol=1e-4)


def test_the_best_scale_is_the_root_of_the_mean_squared_error():
    errors = 0.3 * tf.random.stateless_normal((500, 2), SEED)
    sigma = Sigma()
    optimizer = keras.optimizers.Adam(1e-2)
    for _ in range(300):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(sigma.log_prob(errors, tf.zeros_like(errors)))
        optimizer.apply(tape.gradient(loss, sigma.trainable_variables), sigma.trainable_variables)
    root_mean_square = math.sqrt(float(tf.reduce_mean(tf.square(errors))))
    assert float(tf.exp(sigma.log_std())) == pytest.approx(root_mean_square, rel=0.01)


def test_the_scale_stays_finite_for_data_without_noise():
    sigma = Sigma()
    sigma.weight.assign(-1000.0)
    assert np.isfinite(sigma.log_prob(tf.zeros((1, 2)), tf.zeros((1, 2)))).all()
