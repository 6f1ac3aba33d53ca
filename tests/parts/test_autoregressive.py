import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from parts import autoregressive
from parts.autoregressive import Autoregressive
from parts.likelihoods import Bernoulli, ColourLogistic, DiscretizedLogistic
from parts.networks import MaskedConv2D

SEED = tf.constant([5, 6])
FEATURES = 4
PIXELS = [(Bernoulli, 1), (DiscretizedLogistic, 1), (ColourLogistic, 3)]


def build(pixel, shape, window=3, pixel_dims=(FEATURES, FEATURES, 6)):
    keras.utils.set_random_seed(0)
    likelihood = Autoregressive(pixel(), shape, window, pixel_dims)
    likelihood.log_prob(tf.zeros((1, *shape)), tf.zeros((1, *shape[:2], FEATURES)))  # creates the weights
    for weight in likelihood.trainable_variables:
        weight.assign(tf.random.normal(weight.shape))
    return likelihood


def features(num, shape, seed=SEED):
    return tf.random.stateless_normal((num, *shape[:2], FEATURES), seed)


def params_of_pixels(likelihood, x, maps):
    """The parameters of each channel's distribution, given the pixels and channels before it: (h, w, c, params)."""
    params = likelihood.params(x, maps)
    if isinstance(likelihood.pixel, ColourLogistic):
        location, log_scale, slopes = likelihood.pixel.split(params)
        return tf.stack([location + likelihood.pixel.shift(x, slopes), log_scale], axis=-1)[0]
    return tf.stack(tf.split(params, likelihood.pixel.params_per_channel, axis=-1), axis=-1)[0]


def assert_sees_exactly_its_window(likelihood, shape, window, num_masked=0):
    """A masked 3x3 convolution looks to the right only in the row above, so in the rows just above a pixel a few of the
    last columns are missing."""
    height, width, channels = shape
    x = tf.Variable(tf.random.stateless_uniform((1, *shape), SEED))
    with tf.GradientTape() as tape:
        params = params_of_pixels(likelihood, x, features(1, shape))
    jacobian = np.abs(tape.jacobian(params, x))[..., 0, :, :, :].sum(axis=3)  # (h, w, c) of outputs, then of inputs
    reach = window // 2
    outputs = itertools.product(range(height), range(width), range(channels))
    for row, column, channel in outputs:
        seen = jacobian[row, column, channel] > 0
        for i, j, k in itertools.product(range(height), range(width), range(channels)):
            is_before = (i, j) < (row, column)
            rightmost = column + reach - max(0, num_masked - (row - i - 1))
            is_near = row - reach <= i and column - reach <= j <= (column if i == row else rightmost)
            in_order = (i, j) == (row, column) and k < channel
            assert seen[i, j, k] == ((is_before and is_near) or in_order), ((row, column, channel), (i, j, k))


@pytest.mark.parametrize(("pixel", "channels"), PIXELS)
@pytest.mark.parametrize(("window", "num_layers", "num_masked"), [(3, 3, 0), (5, 1, 0), (5, 3, 1), (7, 5, 2)])
def test_a_pixel_sees_its_window_and_nothing_else(pixel, channels, window, num_layers, num_masked):
    shape = (5, 7, channels)
    likelihood = build(pixel, shape, window, num_layers * (FEATURES,))
    assert_sees_exactly_its_window(likelihood, shape, window, num_masked)


@pytest.mark.parametrize(("pixel", "channels"), PIXELS)
@pytest.mark.parametrize("what", ["image", "features"])
def test_a_mask_of_ones_fails_that_test(monkeypatch, pixel, channels, what):
    if what == "image":
        monkeypatch.setattr(autoregressive, "causal_mask", lambda size: np.ones((size // 2 + 1, size), np.float32))
    else:
        monkeypatch.setattr(MaskedConv2D, "MASK", np.ones((2, 3, 1, 1), np.float32))
    shape = (5, 5, channels)
    with pytest.raises(AssertionError):
        assert_sees_exactly_its_window(build(pixel, shape, 5), shape, 5, 1)


@pytest.mark.parametrize("window", [3, 7])
def test_probabilities_of_all_binary_images_sum_to_one(window):
    shape = (3, 3, 1)
    images = np.array(list(itertools.product([0.0, 1.0], repeat=9)), np.float32).reshape(-1, *shape)
    likelihood = build(Bernoulli, shape, window, 5 * (FEATURES,))
    log_probs = likelihood.log_prob(images, tf.repeat(features(1, shape), 512, axis=0))
    assert log_probs.shape == (512,)
    assert float(tf.reduce_logsumexp(log_probs)) == pytest.approx(0, abs=1e-4)


def test_probabilities_of_all_grey_levels_of_two_pixels_sum_to_one():
    shape = (1, 2, 1)
    levels = np.arange(256, dtype=np.float32) / 255
    images = np.stack(np.meshgrid(levels, levels), axis=-1).reshape(-1, *shape)
    log_probs = build(DiscretizedLogistic, shape).log_prob(images, tf.repeat(features(1, shape), 65536, axis=0))
    assert float(tf.reduce_logsumexp(log_probs)) == pytest.approx(0, abs=1e-3)


def test_probabilities_of_all_colours_of_a_pixel_sum_to_one(monkeypatch):
    monkeypatch.setattr(ColourLogistic, "LEVELS", 9)
    colours = np.array(list(itertools.product(np.arange(9) / 8, repeat=3)), np.float32).reshape(-1, 1, 1, 3)
    for seed in range(3):
        params = tf.random.stateless_normal((1, 1, 1, 9), [seed, 0])
        log_probs = ColourLogistic().log_prob(colours, tf.repeat(params, 729, axis=0))
        assert float(tf.reduce_logsumexp(log_probs)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("pixel", "channels"), PIXELS)
def test_each_summand_depends_on_its_pixel_and_those_before_it(pixel, channels):
    shape = (3, 4, channels)
    likelihood, maps = build(pixel, shape), features(1, shape)
    x = np.round(np.random.default_rng(0).random((1, *shape))).astype(np.float32)
    before = likelihood.log_probs(x, maps).numpy()
    assert before.shape == x.shape
    np.testing.assert_allclose(before.sum(), likelihood.log_prob(x, maps)[0], rtol=1e-5)
    x[0, 1, 2] = 1 - x[0, 1, 2]
    differs = (likelihood.log_probs(x, maps).numpy() != before).any(axis=-1)[0]
    assert differs[1, 2]
    assert differs[1, 3], "the next pixel sees it"
    assert not differs[0].any()
    assert not differs[1, :2].any()


def fill_in_naively(likelihood, x, known, maps, seed):
    """A whole pass for every pixel."""
    x = np.where(known, x, 0).astype(np.float32)
    uniform = tf.random.stateless_uniform(x.shape, seed, minval=1e-7)
    for row, column in itertools.product(*map(range, x.shape[1:3])):
        drawn = likelihood.pixel.draw(likelihood.params(tf.constant(x), maps), uniform)
        missing = ~known[:, row, column]
        x[:, row, column] = np.where(missing, drawn[:, row, column], x[:, row, column])
    return x


@pytest.mark.parametrize(("pixel", "channels"), PIXELS)
@pytest.mark.parametrize("window", [3, 5, 7])
def test_the_fast_sampler_draws_the_image_of_the_naive_one(monkeypatch, pixel, channels, window):
    monkeypatch.setattr(autoregressive, "FEW", 4)
    shape = (5, 6, channels)
    likelihood, maps = (
        build(pixel, shape, window, 5 * (FEATURES,)),
        features(6, shape),
    )  # a whole block and a part of one
    images = likelihood.sample(maps, SEED)
    nothing = np.zeros(images.shape, bool)
    np.testing.assert_allclose(images, fill_in_naively(likelihood, images, nothing, maps, SEED), atol=1e-6)
    assert len(np.unique(images)) > 1
    assert np.any(images != likelihood.sample(maps, SEED + 1)), "the seed decides"


@pytest.mark.parametrize(("pixel", "channels"), PIXELS)
def test_missing_pixels_are_drawn_in_order_around_the_known_ones(monkeypatch, pixel, channels):
    monkeypatch.setattr(autoregressive, "FEW", 4)
    shape = (5, 6, channels)
    likelihood, maps = build(pixel, shape, 5, 5 * (FEATURES,)), features(6, shape)
    rng = np.random.default_rng(1)
    x = np.round(rng.random((6, *shape))).astype(np.float32)
    known = np.broadcast_to(rng.random((6, 5, 6, 1)) < 0.5, x.shape)
    images = likelihood.fill_in(tf.constant(x), tf.constant(known), maps, SEED).numpy()
    np.testing.assert_allclose(images, fill_in_naively(likelihood, x, known, maps, SEED), atol=1e-6)
    np.testing.assert_array_equal(images[known], x[known])
    assert np.any(images[~known] != likelihood.sample(maps, SEED).numpy()[~known]), "the known pixels matter"


def test_images_are_drawn_as_often_as_their_probability_says():
    shape, num = (2, 2, 1), 8000
    likelihood, maps = build(Bernoulli, shape), features(1, shape)
    images = np.array(list(itertools.product([0.0, 1.0], repeat=4)), np.float32)
    probabilities = np.exp(likelihood.log_prob(images.reshape(-1, *shape), tf.repeat(maps, 16, axis=0)))
    drawn = likelihood.sample(tf.repeat(maps, num, axis=0), SEED).numpy().reshape(num, 4)
    shares = (drawn[:, None] == images[None]).all(axis=2).mean(axis=0)
    np.testing.assert_allclose(shares, probabilities, atol=4 * 0.5 / np.sqrt(num))
