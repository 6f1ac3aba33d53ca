"""Exact arithmetic: the same integers whatever the order of sums, and values near those of TensorFlow."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from small_models import KINDS, build, class_probs, images
from threadpoolctl import threadpool_limits

from coding import exact
from coding import model as coding_model
from coding.decisions import FINE
from coding.exact import ONE, Affine, CodingError, tables
from coding.model import LosslessModel


def test_sums_of_products_are_those_of_whole_numbers():
    rng = np.random.default_rng(0)
    affine = Affine(rng.normal(size=(700, 5)), rng.normal(size=5))
    x = exact.to_grid(rng.uniform(-200, 200, (3, 700)))
    wanted = [
        [
            sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) + int(bias)
            for column, bias in zip(affine.kernel.T, affine.bias, strict=True)
        ]
        for row in x
    ]
    wanted = [[min(max((total + 2**15) >> 16, -(2**24)), 2**24) for total in row] for row in wanted]
    assert affine(x).tolist() == wanted
    order = rng.permutation(700)
    shuffled = Affine(np.zeros((700, 5)))
    shuffled.kernel, shuffled.bias = affine.kernel[order], affine.bias
    assert shuffled(x[:, order]).tolist() == wanted


def test_weights_that_would_round_are_refused():
    Affine(np.full((100, 2), 50.0), largest=ONE)  # pixels are small
    with pytest.raises(CodingError, match="too large for exact arithmetic"):
        Affine(np.full((100, 2), 50.0))
    with pytest.raises(CodingError, match="too large"):
        Affine(np.array([[np.nan]]))


@pytest.mark.parametrize(
    ("name", "function", "fraction"),
    [
        ("normal_cdf", scipy.special.ndtr, 32),
        ("sigmoid", scipy.special.expit, 32),
        ("probability", scipy.special.expit, 24),
        ("elu", lambda x: np.expm1(np.minimum(x, 0)), 16),
        ("gelu", lambda x: x * (scipy.special.ndtr(x) - (x > 0)), 16),
        ("inverse_std", lambda x: np.exp(-7.5 * np.tanh(x / 15)), 16),
        ("inverse_scale", lambda x: np.exp(-x), 16),
        ("weight", lambda x: np.exp(np.minimum(x, 0)), 16),
    ],
)
def test_tables_hold_the_functions_rounded(name, function, fraction):
    table = tables()[name]
    arguments = np.arange(-table.last, table.last + 1) / 2.0**10
    np.testing.assert_allclose(table.entries, function(arguments) * 2.0**fraction, atol=0.5001, rtol=1e-14)
    assert table(np.array([-1e9, 1e9])).tolist() == [table.entries[0], table.entries[-1]]


def test_tables_are_interpolated():
    arguments = np.random.default_rng(0).uniform(-9, 9, 1000)
    masses = tables()["normal_cdf"].between(exact.to_grid(arguments, 32).astype(np.int64), 32)
    np.testing.assert_allclose(masses / 2.0**32, scipy.special.ndtr(arguments), atol=1e-7)


def rows_of(model, numbers, classes):
    one_hot = None if classes is None else tf.constant(np.eye(3, dtype=np.float32)[classes])
    z = tf.constant((FINE.values(numbers) / ONE).astype(np.float32))
    return z, one_hot


@pytest.mark.parametrize("kind", KINDS)
def test_networks_compute_what_tensorflow_does(kind):
    model = build(kind)
    coder = LosslessModel(model, class_probs(model))
    x, classes = images(model, 5)
    numbers = np.random.default_rng(2).integers(2**14 - 512, 2**14 + 512, (5, 3))
    z, one_hot = rows_of(model, numbers, classes)
    x_float = tf.constant((x / (coder.pixels.num_levels - 1)).astype(np.float32))

    mean, inverse_std = coder.moments(x, classes)
    wanted_mean, wanted_logvar = model.encoder(x_float, one_hot)
    np.testing.assert_allclose(mean / ONE, wanted_mean, atol=0.01)
    np.testing.assert_allclose(inverse_std / ONE, np.exp(-0.5 * wanted_logvar), rtol=0.02)

    params = coder.decoder_output(numbers, classes)(slice(None))
    wanted = model.likelihood_params(z, one_hot)
    if hasattr(coder.likelihood, "window"):
        params = coder.likelihood.window.params(coder.pixels.values(x), params)
        wanted = model.likelihood.params(x_float, wanted)
    np.testing.assert_allclose(params / ONE, wanted, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_depend_neither_on_threads_nor_on_the_batch(kind, monkeypatch):
    model = build(kind)
    coder = LosslessModel(model, class_probs(model))
    x, classes = images(model, 33)

    def results():
        return [*coder.moments(x, classes), coder.decoder_output(np.full((33, 3), 2**14 + 50), classes)(slice(None))]

    together = results()
    with threadpool_limits(1):
        monkeypatch.setattr(coding_model, "BLOCK", 1)
        for one, other in zip(results(), together, strict=True):
            np.testing.assert_array_equal(one, other)


def test_pixels_in_order_get_the_parameters_of_one_pass():
    for kind in ("vlae", "vlae levels", "vlae colour"):
        model = build(kind)
        coder = LosslessModel(model, class_probs(model))
        x, classes = images(model, 4)
        values = coder.pixels.values(x)
        features = coder.decoder_output(np.full((4, 3), 2**14 + 50), classes)(slice(None))
        places, found = iter(np.ndindex(6, 5)), []

        def draw(params, places=places, found=found, values=values):
            found.append(params)
            return values[(slice(None), *next(places))]

        coder.likelihood.window.fill_in_order(features, draw)
        found = np.stack(found, axis=1).reshape(4, 6, 5, -1)
        np.testing.assert_array_equal(found, coder.likelihood.window.params(values, features))


def test_models_that_cannot_code_say_why():
    import vae

    for arguments, reason in (
        ({"prior": "flow"}, "flow prior"),
        ({"likelihood": "sigma"}, "likelihood is a density"),
        ({"data_shape": (2,), "likelihood": "sigma"}, "likelihood is a density"),
    ):
        model = vae.build_model("vae", **{"data_shape": (6, 5, 1), "hidden_dims": (4,), **arguments})
        with pytest.raises(CodingError, match=reason):
            LosslessModel(model)
    with pytest.raises(CodingError, match="only images"):
        coding_model.LossyModel(vae.build_model("vae", data_shape=(2,), hidden_dims=(4,), likelihood="sigma"))
    with pytest.raises(CodingError, match="how frequent each class is"):
        LosslessModel(build("cvae"))
