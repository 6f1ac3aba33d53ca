"""M1+M2: a class that is latent among the codes of a VAE that was trained before."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_refused, assert_same_tensors, metrics, tensors
from test_vae import SEED, batch, build, make_trainable

import vae
from storage.checkpoints import read_header
from trained.model import TrainedModel

FEATURES = "model_ckpts/vae/mnist/vae.weights.h5"
M1M2 = "--model", "m1m2", "--num_labels", "20", "--features", FEATURES


def test_without_labels_the_terms_are_averages_over_the_classes():
    model = build("m1m2", prior="gaussian", classifier="mlp")
    x, _, seed = batch()
    logits = tf.random.stateless_normal((len(x), 3), SEED + 7)
    model.classifier = type("Fixed", (keras.layers.Layer,), {"call": lambda self, x: logits})()
    probs = tf.nn.softmax(logits).numpy()
    found = model.unlabelled_terms(x, seed)
    of_classes = [model.terms(x, tf.one_hot([number] * len(x), 3), seed) for number in range(3)]
    np.testing.assert_allclose(found[0], of_classes[0][0], rtol=1e-5)
    np.testing.assert_allclose(found[0], of_classes[1][0], rtol=1e-5)
    expected = sum(probs[:, number, None] * of_classes[number][1] for number in range(3))
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[2], np.sum(probs * np.log(3 * probs), axis=1), atol=1e-5)
    assert not np.allclose(of_classes[0][1], of_classes[1][1])


def test_the_label_reaches_the_prior_alone():
    model = build("m1m2", prior="mixture", classifier="mlp")
    for weight in model.prior.trainable_variables:
        weight.assign(tf.random.stateless_normal(weight.shape, SEED))
    x, labels, _ = batch()
    others = labels[:, ::-1]
    z, _ = model.encode(x, labels)
    np.testing.assert_array_equal(z, model.encode(x, others)[0])
    np.testing.assert_array_equal(model.decode(z, labels), model.decode(z, others))
    assert not np.allclose(model.prior.log_prob(z, labels), model.prior.log_prob(z, others))


def test_codes_and_images_need_no_label():
    trained = TrainedModel(build("m1m2", prior="gaussian", classifier="mlp"), tuple("abc"))
    x, labels, _ = (part.numpy() for part in batch())
    np.testing.assert_array_equal(trained.encode(x), trained.encode(x, labels))
    np.testing.assert_array_equal(trained.reconstruct(x), trained.reconstruct(x, labels))
    for call in (trained.sample, trained.model.sample):
        with pytest.raises(ValueError, match="needs labels"):
            call(2)


def test_training_leaves_the_networks_of_the_vae_as_they_are():
    model, features = build("m1m2", prior="gaussian", classifier="mlp", likelihood="sigma"), build(likelihood="sigma")
    features.likelihood.set_weights([tf.constant(-1.5)])
    model.take_features(features)
    make_trainable(model)
    before = [weight.numpy() for weight in (*model.prior.weights, *model.classifier.weights)]
    x, labels, seed = batch()
    model.train_step((x, labels[:4], seed))
    after = *model.prior.weights, *model.classifier.weights
    assert all(np.any(old != new) for old, new in zip(before, after, strict=True))
    for part in ("encoder", "decoder", "likelihood"):
        own, other = (getattr(one, part).get_weights() for one in (model, features))
        assert own
        assert all(np.array_equal(a, b) for a, b in zip(own, other, strict=True))


def test_a_prior_that_knows_no_classes_is_refused():
    with pytest.raises(ValueError, match="needs a prior that knows classes: gaussian, flow or mixture"):
        build("m1m2", prior="standard")


# The script


def write_pictures(path, seed):
    images, rng = np.zeros((90, 8, 8), np.uint8), np.random.default_rng(seed)
    classes = np.arange(90) % 3
    for image, number in zip(images, classes, strict=True):
        image[2 * number : 2 * number + 3, rng.integers(0, 4) :] = 255
    np.savez(path, images=images, labels=classes)


@pytest.mark.slow
def test_a_run_takes_data_and_networks_from_the_vae(script, capsys):
    write_pictures("own.npz", 0)
    networks = "--network", "conv", "--hidden_dims", "4", "--latent_size", "3", "--likelihood", "sigma"
    assert script("--dataset", "own.npz", *networks, "--image_size", "6", "--num_epochs", "1", only=True) == 0
    file = "model_ckpts/vae/own/vae.weights.h5"
    m1m2 = "--model", "m1m2", "--num_labels", "9", "--features", file
    assert script(*m1m2, "--classifier", "conv", "--num_epochs", "1", only=True) == 0
    printed, figures = capsys.readouterr().out, metrics("outputs/m1m2/own")
    assert "6x6 grey images" in printed
    assert "the encoder is given the class" not in printed
    found = [figures[name] for name in ("network", "hidden_dims", "latent_size", "likelihood")]
    assert found == ["conv", [4], 3, "sigma"]
    own, features = vae.load("model_ckpts/m1m2/own/m1m2.weights.h5").model, vae.load(file).model
    x, z = tf.random.stateless_uniform((5, 6, 6, 1), SEED), tf.random.stateless_normal((5, 3), SEED)
    np.testing.assert_array_equal(own.encode(x, tf.eye(5, 3))[1], features.encode(x)[1])
    np.testing.assert_array_equal(own.decode(z, tf.eye(5, 3)), features.decode(z))
    assert float(own.likelihood.log_std()) == float(features.likelihood.log_std())

    # What a stopped run advises: the same command with --load_weights.
    assert script(*m1m2, "--load_weights", "--num_epochs", "2", only=True) == 0
    assert "NOTE: ignored here: --features" in capsys.readouterr().out
    assert script("--slim", "--checkpoint", "model_ckpts/m1m2/own/m1m2.weights.h5", only=True) == 0
    assert read_header("outputs/m1m2/own/m1m2_own.weights.h5")["config"]["features"] == "vae.weights.h5"

    write_pictures("others.npz", 1)
    assert script(*m1m2, "--dataset", "others.npz", only=True) == 1
    assert "has other examples or labels" in capsys.readouterr().err


@pytest.mark.slow
def test_training_resumes_bit_for_bit_and_needs_the_vae_no_more(script, start, tmp_path):
    start()
    flags = *M1M2, "--prior", "gaussian"  # the mixture, the default, takes longer to build
    assert script(*flags) == 0
    whole = tmp_path / "whole.h5"
    (tmp_path / "model_ckpts/m1m2/mnist/m1m2.weights.h5").rename(whole)
    assert script(*flags, "--num_epochs", "1") == 0
    (tmp_path / FEATURES).unlink()
    assert script("--model", "m1m2", "--load_weights", "--num_epochs", "2") == 0
    assert_same_tensors(whole, "model_ckpts/m1m2/mnist/m1m2.weights.h5")
    assert any("classifier" in name for name in tensors(whole))


@pytest.mark.slow
def test_what_else_a_model_can_do_it_does(script, start):
    start()
    assert script(*M1M2) == 0
    checkpoint = "--checkpoint", "model_ckpts/m1m2/mnist/m1m2.weights.h5"
    for verb in (
        ("--evaluate", "--num_importance_samples", "50"),
        ("--sample", "--labels", "3", "7"),
        ("--encode", "mnist"),
        ("--score", "mnist", "--num_importance_samples", "0"),
        ("--fill_in", "mnist", "--hide", "left", "--max_examples", "2"),
        ("--slim",),
        ("--explore",),
        ("--compress", "mnist", "--lossy"),
    ):
        assert script(*verb, *checkpoint, only=True) == 0, verb
    figures = metrics("outputs/m1m2/mnist")["test"]
    assert figures["log_p_x"] > figures["elbo_of_unlabelled"]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--model", "m1m2"), 2, "--model m1m2 needs --features with the checkpoint of a VAE"),
        (("--model", "m1m2", "--train", "--evaluate"), 2, "--model m1m2 needs --features"),
        (("--features", FEATURES), 2, "--features needs --model m1m2"),
        (("--model", "m1m2", "--features", "none.h5"), 1, "--features: "),
        ((*M1M2, "--latent_size", "9"), 1, "has latent_size 3, you asked for 9. Leave that flag out, or train a VAE"),
        ((*M1M2, "--dataset", "mnist_sample"), 1, "dataset"),
        ((*M1M2, "--validation_size", "20"), 1, "validation_size"),
        ((*M1M2, "--prior", "standard"), 2, "--model m1m2 contradicts --prior standard"),
    ],
)
def test_what_does_not_fit_the_vae_is_refused_in_one_line(script, start, capsys, flags, code, message):
    start()
    assert_refused(script, capsys, flags, code, message)


@pytest.mark.slow
def test_features_of_other_models_are_refused(script, start, capsys):
    start("--model", "cvae")
    checkpoint = "model_ckpts/cvae/mnist/cvae.weights.h5"
    assert script("--model", "m1m2", "--features", checkpoint) == 1
    assert f"--features needs a VAE, and {checkpoint} holds a cvae" in capsys.readouterr().err
