import keras
import numpy as np
import pytest
import tensorflow as tf

import vae
from evaluation import importance_weighted, log_likelihoods

SHAPE, CLASSES = (4, 4, 1), 3
CLASS_PROBS = np.array([0.5, 0.3, 0.2])


def build(model, **kwargs):
    """A model with one latent, so that log p(x|y) can be had by integration, and with some life in p(x, z)."""
    keras.utils.set_random_seed(1)
    arguments = {"data_shape": SHAPE, "num_classes": CLASSES, "latent_size": 1, "hidden_dims": (6,)} | kwargs
    built = vae.build_model(model, **arguments)
    for part in (built.prior, built.decoder, built.likelihood):
        for weight in part.trainable_variables:
            weight.assign_add(0.3 * tf.random.normal(weight.shape))
    return built


def batches(num=5):
    x = tf.cast(tf.random.stateless_uniform((num, *SHAPE), [1, 2]) < 0.5, tf.float32)
    labels = tf.one_hot(np.arange(num) % CLASSES, CLASSES)
    return [(x[:3], labels[:3], None), (x[3:], labels[3:], None)]


def integrated(model, x, number):
    """log p(x|y) of each example, over a fine grid of codes."""
    z = np.linspace(-12, 12, 3001, dtype=np.float32)[:, None]
    condition = model.condition(tf.one_hot(np.full(len(z), number), CLASSES))
    log_prior = tf.reduce_sum(model.prior.log_prob(z, condition), axis=1) + np.log(z[1, 0] - z[0, 0])
    params = model.likelihood_params(tf.constant(z), condition)
    return [
        float(
            tf.reduce_logsumexp(model.likelihood.log_prob(tf.repeat(image[None], len(z), axis=0), params) + log_prior)
        )
        for image in x
    ]


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("vae", {}), ("cvae", {}), ("vlae", {"prior": "flow", "window": 3}), ("vlae", {"prior": "gaussian"})],
)
def test_estimates_meet_the_integral_over_codes(name, kwargs):
    model, data = build(name, **kwargs), batches()
    x, labels = (tf.concat(parts, axis=0) for parts in zip(*((x, labels) for x, labels, _ in data), strict=True))
    by_class = np.array([integrated(model, x, number) for number in range(CLASSES)]).T  # (examples, classes)
    found = log_likelihoods(model, data, num_samples=3000, seed=0, class_probs=CLASS_PROBS)
    if name == "vae":
        np.testing.assert_allclose(found["log_p_x"], by_class[:, 0], atol=0.1)
        assert set(found) == {"log_p_x"}
    else:
        np.testing.assert_allclose(found["log_p_x_given_y"], by_class[labels.numpy() > 0], atol=0.1)
        marginal = np.logaddexp.reduce(by_class + np.log(CLASS_PROBS), axis=1)
        np.testing.assert_allclose(found["log_p_x"], marginal, atol=0.1)


def test_more_samples_tighten_the_bound_from_below():
    model = build("vlae", prior="flow", window=3)
    x, labels, _ = batches(3)[0]
    x, labels = tf.repeat(x, 2000, axis=0), tf.repeat(labels, 2000, axis=0)
    distortion, rates = model.terms(x, labels, tf.constant([9, 9]))
    elbo = -float(tf.reduce_mean(distortion) + tf.reduce_mean(tf.reduce_sum(rates, axis=1)))
    one = float(tf.reduce_mean(importance_weighted(model, x, labels, tf.constant([0, 1]), 1)))
    ten, many = (
        float(tf.reduce_mean(importance_weighted(model, x[::10], labels[::10], tf.constant([0, k]), k)))
        for k in (10, 60)
    )
    assert one == pytest.approx(elbo, abs=0.3)
    assert one < ten < many


def test_one_class_probability_is_all_without_the_others():
    """Where p(y) rules out all classes but the true one, log p(x) is log p(x|y)."""
    model = build("vlae", prior="gaussian")
    x, _, _ = batches(3)[0]
    data = [(x, tf.one_hot([1, 1, 1], CLASSES), None)]
    found = log_likelihoods(model, data, num_samples=20, seed=0, class_probs=np.array([1e-30, 1.0, 1e-30]))
    np.testing.assert_allclose(found["log_p_x"], found["log_p_x_given_y"], atol=1e-5)
