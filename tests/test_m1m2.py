"""M1+M2: a class that is latent among the codes of a VAE that was trained before."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_same_tensors, metrics, tensors
from test_vae import SEED, batch, build, make_trainable

import vae

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
    with pytest.raises(ValueError, match="needs a prior that knows classes: --prior gaussian, flow or mixture"):
        build("m1m2", prior="standard")


# The script


@pytest.mark.parametrize("classifier", ["mlp", "conv"])
def test_a_run_takes_data_and_networks_from_the_vae(script, start, capsys, classifier):
    start("--network", "conv", "--binarize", "dynamic")
    assert script(*M1M2, "--consistency", "1", "--classifier", classifier) == 0
    assert "m1m2 with" in capsys.readouterr().out
    figures = metrics("outputs/m1m2/mnist")
    assert (figures["network"], figures["binarize"]) == ("conv", "dynamic")
    assert 0 <= figures["test"]["error"] <= 1
    own, features = vae.load("model_ckpts/m1m2/mnist/m1m2.weights.h5").model, vae.load(FEATURES).model
    for part in ("encoder", "decoder"):
        pairs = zip(getattr(own, part).get_weights(), getattr(features, part).get_weights(), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_training_resumes_bit_for_bit_and_needs_the_vae_no_more(script, start, tmp_path):
    start()
    assert script(*M1M2) == 0
    whole = tmp_path / "whole.h5"
    (tmp_path / "model_ckpts/m1m2/mnist/m1m2.weights.h5").rename(whole)
    assert script(*M1M2, "--num_epochs", "1") == 0
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
        (("--features", FEATURES), 2, "--features needs --model m1m2"),
        (("--model", "m1m2", "--features", "none.h5"), 1, "none.h5"),
        ((*M1M2, "--latent_size", "9"), 1, "latent_size"),
        ((*M1M2, "--dataset", "mnist_sample"), 1, "dataset"),
        ((*M1M2, "--validation_size", "20"), 1, "validation_size"),
        ((*M1M2, "--prior", "standard"), 1, "needs a prior that knows classes"),
    ],
)
def test_what_does_not_fit_the_vae_is_refused_in_one_line(script, start, capsys, flags, code, message):
    start()
    try:
        found = script(*flags)
    except SystemExit as stopped:
        found = stopped.code
    assert found == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_features_of_other_models_are_refused(script, start, capsys):
    start("--is_cvae")
    checkpoint = "model_ckpts/cvae/mnist/cvae.weights.h5"
    assert script("--model", "m1m2", "--features", checkpoint) == 1
    assert f"--features needs a VAE, and {checkpoint} holds a cvae" in capsys.readouterr().err
