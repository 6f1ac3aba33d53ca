import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_gaussian import DATA, LATENTS, STD
from linear_gaussian import build as build_linear_gaussian

import vae
from evaluation.elbo import elbo_terms
from evaluation.latents import use_of_latents
from evaluation.separation import separation
from trained import importance
from trained.importance import ImportanceWeighter, log_likelihoods

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
    return [(x[:3], labels[:3], tf.constant([0, 0])), (x[3:], labels[3:], tf.constant([0, 1]))]


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
    [
        ("vae", {}),
        ("cvae", {"prior": "flow"}),
        ("vlae", {"prior": "flow", "window": 3}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("vae", {"prior": "gaussian"}),
                ("vae", {"prior": "flow"}),
                ("cvae", {}),
                ("cvae", {"prior": "gaussian"}),
                ("vlae", {"prior": "gaussian"}),
                ("vlae", {"prior": "flow", "num_classes": 0}),
            )
        ),
    ],
)
def test_estimates_meet_the_integral_over_codes(name, kwargs):
    model, data = build(name, **kwargs), batches()
    x, labels = (tf.concat(parts, axis=0) for parts in zip(*((x, labels) for x, labels, _ in data), strict=True))
    by_class = np.array([integrated(model, x, number) for number in range(CLASSES)]).T  # (examples, classes)
    num_samples = 20_000 if (name, kwargs) == ("cvae", {"prior": "gaussian"}) else 3000  # its untrained q is far from p
    found = log_likelihoods(ImportanceWeighter(model), data, num_samples=num_samples, seed=0, class_probs=CLASS_PROBS)
    if not model.is_conditional:
        np.testing.assert_allclose(found["log_p_x"], by_class[:, 0], atol=0.15)
        assert set(found) == {"log_p_x"}
    else:
        np.testing.assert_allclose(found["log_p_x_given_y"], by_class[labels.numpy() > 0], atol=0.15)
        marginal = np.logaddexp.reduce(by_class + np.log(CLASS_PROBS), axis=1)
        np.testing.assert_allclose(found["log_p_x"], marginal, atol=0.15)


def test_one_class_probability_is_all_without_the_others():
    """Where p(y) rules out all classes but the true one, log p(x) is log p(x|y)."""
    model = build("vlae", prior="gaussian")
    x, _, _ = batches(3)[0]
    data = [(x, tf.one_hot([1, 1, 1], CLASSES), None)]
    found = log_likelihoods(
        ImportanceWeighter(model), data, num_samples=20, seed=0, class_probs=np.array([1e-30, 1.0, 1e-30])
    )
    np.testing.assert_allclose(found["log_p_x"], found["log_p_x_given_y"], atol=1e-5)


def test_examples_without_a_label_have_the_marginal_only():
    model, (first, _) = build("cvae"), batches()
    weighter = ImportanceWeighter(model)
    known = log_likelihoods(weighter, [first], num_samples=400, seed=0, class_probs=CLASS_PROBS)
    unknown = [(first[0], tf.zeros_like(first[1]), None)]
    found = log_likelihoods(weighter, unknown, num_samples=400, seed=0, class_probs=CLASS_PROBS)
    assert set(found) == {"log_p_x"}
    np.testing.assert_allclose(found["log_p_x"], known["log_p_x"], atol=0.05)


# A model whose answer is known


@pytest.fixture(scope="module")
def linear_gaussian():
    """The model, points of its own distribution, their exact log p(x), and mean and covariance of p(z|x)."""
    model, rng, weights, bias = build_linear_gaussian()
    covariance = weights.T @ weights + STD**2 * np.eye(DATA)
    posterior = np.linalg.inv(np.eye(LATENTS) + weights @ weights.T / STD**2)
    x = rng.multivariate_normal(bias, covariance, 400).astype(np.float32)
    centred = x - bias
    quadratic = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    log_p = -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])
    return model, x, log_p, centred @ model.encoder.gain, posterior


def estimates(model, x, num_samples, seed=0):
    labels, examples = np.zeros((len(x), 0), np.float32), np.arange(len(x))
    return ImportanceWeighter(model).log_p(x, labels, examples, num_samples=num_samples, seed=seed)


def test_the_bound_converges_to_the_known_answer_from_below(linear_gaussian):
    model, x, log_p, _, _ = linear_gaussian
    gaps = [np.mean(log_p - estimates(model, x, num)) for num in (1, 4, 16, 64, 1024)]
    assert all(earlier > later for earlier, later in itertools.pairwise(gaps))
    assert gaps[-1] > -0.005, "from below"
    assert gaps[-1] < 0.06
    assert gaps[0] > 0.5, "there was something to gain"


def test_the_elbo_lies_below_by_the_divergence_from_the_true_posterior(linear_gaussian):
    model, x, log_p, true_mean, true_covariance = linear_gaussian
    mean, logvar = (part.numpy() for part in model.encode(tf.constant(x)))
    precision = np.linalg.inv(true_covariance)
    off = mean - true_mean
    divergence = 0.5 * (
        np.exp(logvar) @ np.diag(precision)
        + np.einsum("ni,ij,nj->n", off, precision, off)
        - LATENTS
        + np.linalg.slogdet(true_covariance)[1]
        - logvar.sum(axis=1)
    )
    repeats = [(tf.constant(x), tf.zeros((len(x), 0)), tf.constant([seed, 0])) for seed in range(200)]
    elbo = elbo_terms(model, repeats)["elbo"].reshape(200, len(x)).mean(axis=0)
    assert np.mean(log_p - elbo) == pytest.approx(np.mean(divergence), abs=0.02)
    assert np.corrcoef(log_p - elbo, divergence)[0, 1] > 0.9


def test_one_sample_is_the_elbo_on_average(linear_gaussian):
    model, x, _, _, _ = linear_gaussian
    one = np.mean([estimates(model, x, 1, seed) for seed in range(8)])
    repeats = [(tf.constant(x), tf.zeros((len(x), 0)), tf.constant([seed, 0])) for seed in range(30)]
    assert one == pytest.approx(elbo_terms(model, repeats)["elbo"].mean(), abs=0.05)


def test_figures_do_not_depend_on_how_examples_are_grouped(linear_gaussian, monkeypatch):
    model, x, _, _, _ = linear_gaussian
    whole = estimates(model, x, 70)
    monkeypatch.setattr(importance, "MOST_PAIRS", 7)
    np.testing.assert_allclose(estimates(model, x, 70), whole, atol=1e-4)
    assert np.any(np.abs(estimates(model, x, 70, seed=1) - whole) > 1e-3)
    one = np.zeros((1, 0), np.float32), np.array([123])
    alone = ImportanceWeighter(model).log_p(x, *one, num_samples=70, seed=0)
    np.testing.assert_allclose(alone, whole[[123]], atol=1e-4)


def test_examples_have_noise_of_their_own():
    noise = importance.block_of_noise(tf.constant([5, 7]), tf.range(200), 3).numpy()
    assert noise.shape == (importance.BLOCK, 200, 3)
    assert len(np.unique(noise)) > 0.999 * noise.size
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(1, abs=0.03)


# Latents


def test_latents_in_use_are_counted_and_their_rates_are_those_of_the_elbo(linear_gaussian):
    model, x, _, _, _ = linear_gaussian
    terms = elbo_terms(model, [(tf.constant(x), tf.zeros((len(x), 0)), tf.constant([0, 0]))])
    found = use_of_latents(model, terms, np.zeros((len(x), 0)), seed=0)
    assert found["active_units"] == 2
    assert sum(found["rate_per_latent"]) == pytest.approx(terms["rate"].mean(), rel=1e-5)
    dead = terms | {"mean": terms["mean"] * [1.0, 1e-3]}
    assert use_of_latents(model, dead, np.zeros((len(x), 0)), seed=0)["active_units"] == 1


def test_the_distance_from_the_prior_is_that_of_the_moments(linear_gaussian):
    """q(z) made of points of its own: N(m, v) for every example, whose KL from N(0, 1) is known."""
    model, num = linear_gaussian[0], 200_000
    rates = np.zeros((num, LATENTS), np.float32)
    terms = {"mean": np.full((num, LATENTS), 0.5, np.float32), "latent_rates": rates}
    terms["logvar"] = np.full((num, LATENTS), np.log(0.25), np.float32)
    found = use_of_latents(model, terms, np.zeros((num, 0)), seed=0)
    expected = LATENTS * 0.5 * (0.25 + 0.25 - 1 - np.log(0.25))
    assert found["aggregate_posterior_kl"] == pytest.approx(expected, abs=0.02)
    assert found["active_units"] == 0
    few = {name: values[:4] for name, values in terms.items()}
    assert "aggregate_posterior_kl" not in use_of_latents(model, few, np.zeros((4, 0)), seed=0)


def test_separation_is_a_probability():
    assert separation(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == {"auroc": 1.0, "average_precision": 1.0}
    assert separation(np.array([1.0, 3.0]), np.array([2.0, 0.0]))["auroc"] == 0.75
    assert separation(np.array([0.0]), np.array([1.0]))["auroc"] == 0.0
