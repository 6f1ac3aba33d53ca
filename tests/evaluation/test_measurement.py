"""The figures as they are reported: those whose answers are known, and what is left out."""

import gc
import math
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_gaussian import DATA, LATENTS, build

import vae
from data import make_dataset
from evaluation import probes
from evaluation.measurement import Measurement, mean_and_error
from parts.likelihoods import Bernoulli
from parts.priors import StandardNormalPrior
from sources.examples import RawData
from trained.importance import ImportanceWeighter


def measure(model, train, test, *, name="known", binarize="none", **kwargs):
    """Of (x, classes) for training and testing."""
    return Measurement(
        model, make_dataset(name, RawData("here", {"train": train, "test": test})), binarize=binarize, seed=0
    )


def clusters(model, num, seed, swap=False):
    """Points whose codes are far apart by class, which is swapped if so asked."""
    rng = np.random.default_rng(seed)
    classes = np.arange(num) % 2
    codes = rng.normal(size=(num, LATENTS), scale=0.3) + np.where(classes, 3, -3)[:, None]
    x = (codes @ model.decoder.matrix + model.decoder.bias).astype(np.float32)
    return x, 1 - classes if swap else classes


@pytest.mark.parametrize(("swap", "accuracy"), [(False, 1.0), (True, 0.0)])
def test_probes_of_codes_that_tell_the_class(swap, accuracy):
    model = build()[0]
    measurement = measure(model, clusters(model, 60, seed=1), clusters(model, 30, seed=2, swap=swap))
    figures = measurement.probes()
    assert (figures["linear_accuracy"], figures["neighbours_accuracy"]) == (accuracy, accuracy)
    assert (figures["num_examples"], figures["num_training_examples"]) == (30, 60)
    assert "sample_agreement" not in figures


def test_no_probes_without_several_classes():
    model = build()[0]
    (x, classes), (test_x, _) = clusters(model, 20, seed=1), clusters(model, 10, seed=2)
    for labels in (None, np.zeros(20, int), np.stack([classes, classes], axis=1)):
        test_labels = None if labels is None else labels[:10]
        assert measure(model, (x, labels), (test_x, test_labels)).probes() == {}


def test_a_linear_probe_sees_what_is_linear_and_neighbours_what_is_near():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(600, 2))
    ring = (np.linalg.norm(codes, axis=1) > 1.2).astype(int)
    side = (codes[:, 0] > 0).astype(int)
    for classes, linear in ((side, 0.95), (ring, 0.5)):
        data = codes[:400], classes[:400], codes[400:], classes[400:]
        assert (probes.linear_probe(*data) > 0.8) == (linear > 0.8)
        assert probes.nearest_neighbours(*data) > 0.85


class BlankEncoder(keras.layers.Layer):
    """q(z|x, y) = p(z)."""

    def call(self, x, condition=None):
        moments = tf.zeros((tf.shape(x)[0], 1))
        return moments, moments


class LabelDecoder(keras.layers.Layer):
    """Draws the pixel whose number is the class, or one `off` from it."""

    def __init__(self, off):
        super().__init__()
        self.off = off

    def call(self, z, condition):
        return tf.reshape(20 * tf.roll(condition, self.off, axis=1) - 10, (-1, 2, 2, 1))


def pixels(num):
    """Images of one white pixel, whose number is the class."""
    classes = np.arange(num) % 4
    return (255 * np.eye(4, dtype=np.uint8)[classes]).reshape(-1, 2, 2, 1), classes


@pytest.mark.parametrize(("off", "agreement"), [(0, 1.0), (1, 0.0)])
def test_samples_are_of_their_class_or_of_another(off, agreement):
    model = vae.CVAE(BlankEncoder(), LabelDecoder(off), StandardNormalPrior(1), Bernoulli())
    figures = measure(model, pixels(80), pixels(20)).probes()
    assert (figures["sample_agreement"], figures["num_samples"]) == (agreement, 400)
    assert figures["classifier_accuracy"] == 1.0
    assert figures["linear_accuracy"] == 0.25, "the codes tell nothing"


def test_scores_tell_points_of_the_model_from_far_ones(capsys):
    """And nothing appears on the screen."""
    model, rng, weights, bias = build()
    x = (rng.normal(size=(40, LATENTS)) @ weights + bias).astype(np.float32)
    measurement = measure(model, (x, None), (x[:20], None))
    far = make_dataset("far", RawData("here", {"train": (x, None), "test": (x + 50, None)}))
    figures, scores = measurement.out_of_distribution(far, num_samples=2)
    assert (figures["auroc"], figures["average_precision"]) == (1.0, 1.0)
    assert (figures["num_examples"], figures["num_examples_outside"]) == (20, 20)
    assert [len(values) for values in scores.values()] == [20, 20]
    assert list(scores) == ["known (test)", "far (other)"]
    assert (
        figures["log_p_x"] == measurement.log_likelihoods(2)["log_p_x"] == pytest.approx(scores["known (test)"].mean())
    )
    near = make_dataset("near", RawData("here", {"train": (x, None), "test": (x[20:], None)}))
    assert 0.2 < measurement.out_of_distribution(near, num_samples=2)[0]["auroc"] < 0.8
    measurement.bounds()
    measurement.latents()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("likelihood", "binarize", "has_bits"),
    [
        ("bernoulli", "none", False),
        ("bernoulli", "threshold", True),
        ("logistic", "none", True),
        ("gaussian", "none", False),
        ("sigma", "none", False),
    ],
)
def test_bits_where_p_x_is_a_probability_of_the_pixels(likelihood, binarize, has_bits):
    model = vae.build_model("vae", data_shape=(2, 2, 1), latent_size=1, hidden_dims=(2,), likelihood=likelihood)
    images = pixels(4)[0]
    figures = measure(model, (images, None), (images, None), binarize=binarize).bounds()
    assert ("bits_per_dim" in figures) == has_bits
    if has_bits:
        assert figures["bits_per_dim"] == pytest.approx(-figures["elbo"] / 4 / math.log(2))


def test_an_autoregressive_likelihood_has_the_pixels_of_its_pixel():
    for likelihood, expected in (("bernoulli", "binary"), ("logistic", "levels")):
        arguments = {"latent_size": 1, "hidden_dims": (2,), "likelihood": likelihood, "window": 3}
        assert vae.build_model("vlae", data_shape=(4, 4, 3), **arguments).likelihood.pixels == expected


def test_the_standard_error_is_that_of_a_sample_and_left_out_for_one_example():
    assert mean_and_error("elbo", [1.0, 2.0, 3.0, 6.0]) == {
        "elbo": 3.0,
        "elbo_standard_error": pytest.approx(math.sqrt(14 / 3) / 2),
    }
    assert mean_and_error("elbo", [4.0]) == {"elbo": 4.0}


def test_no_model_outlives_its_measurement():
    model = build()[0]
    x = np.zeros((3, DATA), np.float32)
    weighter = ImportanceWeighter(model)
    weighter.log_p(x, np.zeros((3, 0), np.float32), np.arange(3), num_samples=2, seed=0)
    reference = weakref.ref(model)
    del model, weighter
    gc.collect()
    assert reference() is None
