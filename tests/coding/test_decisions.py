"""Distributions as binary decisions: they sum to one, are near the densities they stand for, and round-trip."""

import itertools

import numpy as np
import pytest
import scipy.stats
from small_models import build, images

from coding import decisions
from coding.decisions import FINE, Grid
from coding.exact import ONE
from coding.model import LosslessModel
from coding.stack import Stack


def log2_p(decided, probabilities):
    """The log-probability of each number, from its decisions, as the coder rounds them."""
    one = np.clip(probabilities / 2.0**24, 2.0**-24, 1 - 2.0**-24)
    return np.log2(np.where(decided, one, 1 - one)).sum(axis=0)


DISTRIBUTIONS = {
    "narrow": decisions.normal(np.full((1, 1), 0.3 * ONE), np.full((1, 1), 20.0 * ONE)),
    "wide": decisions.normal(np.full((1, 1), -5.0 * ONE), np.full((1, 1), 0.5 * ONE)),
    "outside": decisions.normal(np.full((1, 1), 200.0 * ONE), np.full((1, 1), 3.0 * ONE)),
    "mixture": decisions.normal_mixture(
        ONE * np.array([[[1.0], [0.25]]]), ONE * np.array([[[-1.0], [2.0]]]), ONE * np.array([[[4.0], [1.0]]])
    ),
    "levels": decisions.logistic_levels(np.full((1, 1), 0.4 * ONE), np.full((1, 1), 30.0 * ONE)),
    "edge levels": decisions.logistic_levels(np.full((1, 1), -3.0 * ONE), np.full((1, 1), 1000.0 * ONE)),
    "classes": decisions.classes(np.array([5, 70, 1, 1, 9]))[0],
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_probabilities_sum_to_one_and_numbers_return(name):
    num_bits = {"classes": 3, "levels": 8, "edge levels": 8}.get(name, FINE.bits)
    numbers = np.arange(1 << num_bits)[:, None]
    decided, probabilities = decisions.decisions_for(numbers, DISTRIBUTIONS[name], num_bits)
    assert np.exp2(log2_p(decided, probabilities)).sum() == pytest.approx(1, abs=1e-9)
    stack, some = Stack(), numbers[:: max(1, len(numbers) // 99)]
    decisions.push(stack, some, DISTRIBUTIONS[name], num_bits)
    np.testing.assert_array_equal(decisions.pop(stack, some.shape, DISTRIBUTIONS[name], num_bits), some)
    assert stack.is_at_start()


def test_normals_have_their_probabilities():
    numbers = np.arange(1 << FINE.bits)[:, None]
    edges = (np.arange((1 << FINE.bits) + 1) - 2.0**14 - 0.5) / 256
    for name, distribution in (
        ("narrow", scipy.stats.norm(0.3, 0.05).cdf),
        ("wide", scipy.stats.norm(-5, 2).cdf),
        ("mixture", lambda x: 0.8 * scipy.stats.norm(-1, 0.25).cdf(x) + 0.2 * scipy.stats.norm(2, 1).cdf(x)),
    ):
        found = np.exp2(log2_p(*decisions.decisions_for(numbers, DISTRIBUTIONS[name], FINE.bits)))[:, 0]
        wanted = np.diff(distribution(edges))
        np.testing.assert_allclose(found, wanted, atol=2e-5)
        bulk = wanted > 1e-4
        np.testing.assert_allclose(found[bulk], wanted[bulk], rtol=5e-3)


def test_levels_have_the_probabilities_of_the_likelihood():
    levels = np.arange(256)[:, None]
    found = np.exp2(log2_p(*decisions.decisions_for(levels, DISTRIBUTIONS["levels"], 8)))[:, 0]
    edges = (np.arange(1, 256) - 0.5) / 255
    masses = scipy.stats.logistic(0.4, 1 / 30).cdf(edges)
    np.testing.assert_allclose(found, np.diff(np.concatenate([[0], masses, [1]])), atol=1e-4)


def test_colour_pixels_of_a_model_sum_to_one():
    """Over all 2^24 colours in steps, channel by channel: each given those before it."""
    model = build("vlae colour")
    pixels = LosslessModel(model).pixels
    params = ONE * np.random.default_rng(0).normal(size=(1, 9))
    for red, green in itertools.product((0, 100, 255), (3, 250)):
        colours = np.array([[red, green, blue] for blue in range(256)], np.uint8)
        decided, probabilities = pixels.decisions_for(colours, np.repeat(params, 256, axis=0))
        blue = slice(16, 24)
        assert np.exp2(log2_p(decided[blue], probabilities[blue])).sum() == pytest.approx(1, abs=1e-9)
        assert len(np.unique(probabilities[:8, :].T[:, 0])) == 1  # red's do not depend on the others


def test_code_lengths_are_those_of_the_likelihoods():
    for kind in ("vae", "vae levels", "vae colour", "vlae", "vlae levels", "vlae colour"):
        model = build(kind)
        probs = (0.2, 0.5, 0.3) if model.is_conditional else None
        coder = LosslessModel(model, probs)
        _, classes = images(model, 3)
        numbers = np.random.default_rng(2).integers(2**14 - 512, 2**14 + 512, (3, 3))
        shape = 3, *coder.data_shape
        x = coder.likelihood.pop(Stack(), shape, coder.decoder_output(numbers, classes))  # what is popped is drawn
        params = coder.decoder_output(numbers, classes)(slice(None))
        if hasattr(coder.likelihood, "window"):
            params = coder.likelihood.window.params(coder.pixels.values(x), params)
        bits = -log2_p(*coder.pixels.decisions_for(x, params))
        bits = bits.reshape(3, -1).sum(axis=1)
        z = (FINE.values(numbers) / ONE).astype(np.float32)
        condition = None if classes is None else np.eye(3, dtype=np.float32)[classes]
        x_float = (x / (coder.pixels.num_levels - 1)).astype(np.float32)
        wanted = -model.likelihood.log_prob(x_float, model.likelihood_params(z, condition)) / np.log(2)
        np.testing.assert_allclose(bits, wanted, rtol=0.01)


def test_a_coarse_grid_rounds_to_the_nearest_code():
    grid = Grid(np.array([ONE // 3, 7 * ONE]), 12)
    values = ONE * np.array([[0.2, 3.6], [-0.1, -3.4], [500.0, -500.0]])
    np.testing.assert_allclose(grid.values(grid.nearest(values))[:2] / ONE, [[1 / 3, 7], [0, 0]], atol=1e-4)
    assert (np.abs(grid.values(grid.nearest(values))[2] / ONE) >= 250).all()
    one = grid.of_latent(1)
    np.testing.assert_array_equal(one.nearest(values[:, 1:]), grid.nearest(values)[:, 1:])
