"""Which pictures are made of a model, and what is written on them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import vae
from data import make_dataset
from evaluation.elbo import elbo_terms
from pictures.album import Album
from pictures.interpolation import choose_pairs, draw_interpolation, slerp
from pictures.samples import make_samples, save_samples
from pictures.style_transfer import draw_style_transfer
from pictures.traversals import draw_traversals
from sources.batches import evaluation_batches
from sources.examples import RawData


@pytest.fixture(scope="module")
def dataset():
    """Noise of two classes."""
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
    return make_dataset("noise", RawData("here", {"train": (x, np.arange(20) % 2), "test": (x, np.arange(20) % 2)}))


def build(model, **kwargs):
    keras.utils.set_random_seed(0)
    sizes = {"data_shape": (4, 4, 1), "num_classes": 2, "latent_size": 3, "hidden_dims": (4,)}
    return vae.build_model(model, **sizes, **kwargs)


def test_an_album_knows_folder_and_beginning_of_a_pictures_name(tmp_path):
    album = Album(tmp_path, caption="run vae/x")
    assert album.path("samples.png") == tmp_path / "samples.png"
    assert album.with_prefix("epoch_002_").path("samples.png") == tmp_path / "epoch_002_samples.png"
    assert album.with_prefix("epoch_002_").caption == "run vae/x"


@pytest.mark.parametrize(
    ("model", "prior", "is_one_class"),
    [("vae", "standard", False), ("cvae", "standard", True), ("vlae", "gaussian", True), ("vlae", "standard", False)],
)
def test_an_interpolation_says_where_its_ends_are_of_one_class(drawn, dataset, tmp_path, model, prior, is_one_class):
    draw_interpolation(Album(tmp_path, caption="run x/y"), build(model, prior=prior), dataset, "none", 0)
    figure = drawn["interpolation.png"]
    assert ("two test examples of one class" in figure.axes[0].get_title()) == is_one_class
    assert figure.texts[0].get_text() == "run x/y"
    starts, ends = choose_pairs(dataset.test, same_class=is_one_class, seed=0)
    classes = dataset.test.labels.argmax(axis=1)
    assert len(starts) > 5
    assert np.all((classes[starts] == classes[ends]) == is_one_class)


def test_of_two_examples_of_two_classes_it_is_not_said_that_they_are_of_one(drawn, dataset, tmp_path):
    two = dataset.test.x[:2], np.arange(2)
    few = make_dataset("few", RawData("here", {"train": two, "test": two}))
    draw_interpolation(Album(tmp_path), build("cvae"), few, "none", 0)
    assert "of one class" not in drawn["interpolation.png"].axes[0].get_title()


@pytest.mark.parametrize("name", ["vae", "cvae"])
def test_an_interpolation_turns_evenly_through_the_noise_of_a_learned_prior(dataset, tmp_path, monkeypatch, name):
    """The length of the noise changes linearly from end to end."""
    model, decoded = build(name, prior="gaussian"), []
    model.prior.means.assign(tf.random.stateless_normal(model.prior.means.shape, [1, 2]))
    monkeypatch.setattr(
        vae.VAE, "decode", lambda self, z, *rest: decoded.append((z, *rest)) or tf.zeros((len(z), 4, 4, 1))
    )
    draw_interpolation(Album(tmp_path), model, dataset, "none", 0)
    noise = [model.prior.to_noise(z, model.condition(labels)) for z, labels, _ in decoded]
    lengths = np.linalg.norm(noise, axis=-1)  # (steps, pairs)
    np.testing.assert_allclose(lengths, np.linspace(lengths[0], lengths[-1], len(lengths)), atol=1e-5)
    assert np.ptp(lengths[0]) > 0.01


@pytest.mark.parametrize(
    ("prior", "kept"), [("standard", "the code"), ("gaussian", "the noise behind"), ("flow", "the noise behind")]
)
def test_style_transfer_says_what_is_kept(drawn, dataset, tmp_path, prior, kept):
    draw_style_transfer(Album(tmp_path), build("cvae", prior=prior), dataset, "none", 0)
    assert f"Style transfer: {kept}" in drawn["style_transfer.png"].axes[0].get_title()


@pytest.mark.parametrize(
    ("prior", "label"),
    [("gaussian", "z{}: rate {:.2f} nats"), ("flow", "z{}: {:.2f} of the rate's {:.2f} nats")],
)
def test_a_traversal_says_what_part_of_the_rate_a_latent_has(drawn, dataset, tmp_path, prior, label):
    model = build("vlae", prior=prior)
    terms = elbo_terms(model, evaluation_batches(dataset.test, seed=0, binarize="none"))
    draw_traversals(Album(tmp_path), model, dataset, terms, "none", 0)
    rates = terms["latent_rates"].mean(axis=0)
    labels = [text.get_text() for text in drawn["traversals.png"].axes[0].get_yticklabels()]
    assert labels == [label.format(i + 1, rates[i], rates.sum()) for i in np.argsort(-rates)]


def test_samples_of_classes_are_saved_in_their_order(tmp_path):
    samples = make_samples(build("cvae"), num=3, classes=[1, 0], seed=0)
    assert samples.x.shape == (2, 3, 4, 4, 1)
    assert samples.notation == "mean of p(x|z, y), z ~ p(z)"
    save_samples(tmp_path / "samples.npz", samples)
    with np.load(tmp_path / "samples.npz") as arrays:
        assert arrays["labels"].tolist() == [1, 1, 1, 0, 0, 0]
        np.testing.assert_array_equal(arrays["images"][3], samples.x[1, 0])
    save_samples(tmp_path / "samples.npz", make_samples(build("vae"), num=3, classes=None, seed=0))
    with np.load(tmp_path / "samples.npz") as arrays:
        assert arrays.files == ["images"]
        assert arrays["images"].shape == (3, 4, 4, 1)


def test_interpolation_stays_between_the_lengths_of_its_ends_and_turns_evenly():
    rng = np.random.default_rng(0)
    starts, ends = rng.standard_normal((2, 1000, 1, 2))
    ends[:10] = -3 * starts[:10] + rng.normal(0, 0.01, (10, 1, 2))  # nearly opposite
    ends[10], ends[11], starts[12] = 2 * starts[10], -2 * starts[11], 0
    path = slerp(starts, ends, np.linspace(0, 1, 9)[:, None])
    lengths = np.linalg.norm(path, axis=-1)
    longest = np.maximum(lengths[:, 0], lengths[:, -1])
    assert np.all(lengths <= longest[:, None] + 1e-6)
    np.testing.assert_allclose(path[:, 0], starts[:, 0], atol=1e-6)
    np.testing.assert_allclose(path[:, -1], ends[:, 0], atol=1e-6)
    directions = path[13:] / lengths[13:, :, None]
    turns = np.arccos(np.clip(np.sum(directions[:, 1:] * directions[:, :-1], axis=-1), -1, 1))
    np.testing.assert_allclose(turns, turns[:, :1].repeat(8, axis=1), atol=1e-4)
