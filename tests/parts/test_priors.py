import keras
import numpy as np
import pytest
import tensorflow as tf

from parts.priors import PRIORS, FlowPrior, normal_log_prob

SEED = tf.constant([7, 8])
LATENT, CLASSES = 4, 3


def build(name, latent_size=LATENT, num_classes=CLASSES, **kwargs):
    """A prior with random weights: at its start a flow is the identity."""
    keras.utils.set_random_seed(0)
    prior = PRIORS[name](latent_size, num_classes, **kwargs)
    prior.log_prob(tf.zeros((1, latent_size)), condition(1, num_classes))
    for weight in prior.trainable_variables:
        weight.assign(tf.random.normal(weight.shape) * (0.2 if name in ("flow", "mixture") else 1.0))
    return prior


def condition(num, num_classes=CLASSES):
    return tf.one_hot(np.arange(num) % num_classes, num_classes) if num_classes else None


@pytest.mark.parametrize(
    ("num_steps", "num_classes"),
    [(1, CLASSES), pytest.param(2, CLASSES, marks=pytest.mark.slow), pytest.param(3, 0, marks=pytest.mark.slow)],
)
def test_flow_density_is_the_change_of_variables_of_its_sampling(num_steps, num_classes):
    """log p(z) = log N(noise) - log |det dz/dnoise|, with the determinant of the whole Jacobian."""
    prior = build("flow", num_classes=num_classes, num_steps=num_steps)
    noise = tf.random.stateless_normal((6, LATENT), SEED)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(noise)
        z = prior.from_noise(noise, condition(6, num_classes))
        columns = tf.unstack(z, axis=1)
    jacobian = np.stack([tape.gradient(column, noise) for column in columns], axis=1)  # (6, LATENT, LATENT)
    _, log_determinant = np.linalg.slogdet(jacobian)
    assert np.abs(log_determinant).min() > 0.01, "the flow does something"
    expected = tf.reduce_sum(normal_log_prob(noise), axis=1) - log_determinant
    found = tf.reduce_sum(prior.log_prob(z, condition(6, num_classes)), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_a_code_and_its_noise_stand_for_each_other(name):
    prior, noise = build(name), tf.random.stateless_normal((6, LATENT), SEED)
    z = prior.from_noise(noise, condition(6))
    assert (name == "standard") == np.allclose(z, noise)
    np.testing.assert_allclose(prior.to_noise(z, condition(6)), noise, atol=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_density_integrates_to_one_for_every_class(name):
    prior = build(name, latent_size=2, **({"hidden_width": 8} if name in ("flow", "mixture") else {}))
    axis = np.linspace(-12, 12, 401, dtype=np.float32)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    for number in range(CLASSES):
        label = tf.one_hot(np.full(len(z), number), CLASSES)
        density = np.exp(tf.reduce_sum(prior.log_prob(z, label), axis=1))
        assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("num_classes", [0, CLASSES])
def test_rates_are_on_average_the_kl(name, num_classes):
    """Against log q - log p at many samples; for priors with a closed form that is another way to compute it."""
    prior, num = build(name, num_classes=num_classes), 60_000
    labels = None if num_classes == 0 else tf.one_hot(np.ones(num, int), num_classes)
    mean, logvar = tf.repeat([[0.5, -1.0, 0.0, 2.0]], num, axis=0), tf.repeat([[0.3, -2.0, 1.0, 0.0]], num, axis=0)
    z = mean + tf.exp(0.5 * logvar) * tf.random.stateless_normal((num, LATENT), SEED)
    estimate = tf.reduce_sum(normal_log_prob(z, mean, logvar) - prior.log_prob(z, labels), axis=1)
    rates = tf.reduce_sum(prior.latent_rates(mean, logvar, z, labels), axis=1)
    tolerance = 6 * np.std(estimate) / np.sqrt(num)
    assert float(tf.reduce_mean(rates)) == pytest.approx(float(tf.reduce_mean(estimate)), abs=tolerance)
    assert float(tf.reduce_mean(rates)) > 0


@pytest.mark.parametrize("num_classes", [0, CLASSES])
def test_mixture_density_is_the_derivative_of_its_noise(num_classes):
    """The noise of latent i depends on the latents up to i, so the determinant is the product of dnoise_i / dz_i."""
    prior, labels = build("mixture", num_classes=num_classes), condition(6, num_classes)
    z = 2.0 * tf.random.stateless_normal((6, LATENT), SEED)
    with tf.GradientTape() as tape:
        tape.watch(z)
        noise = prior.to_noise(z, labels)
    jacobian = tape.batch_jacobian(noise, z).numpy()
    assert np.all(np.triu(jacobian, 1) == 0)
    slopes = np.diagonal(jacobian, axis1=1, axis2=2)
    np.testing.assert_allclose(prior.log_prob(z, labels), normal_log_prob(noise) + np.log(slopes), atol=1e-3)


def test_a_mixture_leaves_gaps_and_draws_nothing_there():
    prior = PRIORS["mixture"](1)
    prior.log_prob(tf.zeros((1, 1)))
    log_weights, means = np.full(8, -30.0), np.zeros(8)
    log_weights[[0, 7]], means[[0, 7]] = 0.0, [-5.0, 5.0]
    prior.network.bias_out.assign(np.concatenate([log_weights, means, np.full(8, -2.0)]))
    z = prior.sample(2000, SEED).numpy()[:, 0]
    assert np.abs(z).min() > 3
    assert 0.45 < np.mean(z > 0) < 0.55
    assert z[z > 0].mean() == pytest.approx(5, abs=0.05)
    assert z[z > 0].std() == pytest.approx(np.exp(-1), abs=0.02)


@pytest.mark.parametrize("name", ["gaussian", "flow", "mixture"])
def test_learned_priors_depend_on_the_label(name):
    prior = build(name)
    z = tf.random.stateless_normal((1, LATENT), SEED)
    values = {round(float(tf.reduce_sum(prior.log_prob(z, condition(CLASSES)[i : i + 1]))), 4) for i in range(CLASSES)}
    assert len(values) == CLASSES


def test_a_fresh_flow_is_the_standard_normal():
    z = tf.random.stateless_normal((5, LATENT), SEED)
    np.testing.assert_allclose(FlowPrior(LATENT, CLASSES).log_prob(z, condition(5)), normal_log_prob(z), atol=1e-5)


@pytest.mark.parametrize("bound", [3.0, 15.0])
def test_the_scales_of_a_flow_stay_within_their_bound(bound):
    prior = build("flow", logvar_bound=bound)
    for weight in prior.trainable_variables:
        weight.assign(100 * weight)
    _, logvar = prior.steps[0](tf.random.stateless_normal((50, LATENT), SEED), condition(50))
    assert np.max(np.abs(logvar)) == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize("latent_size", [2, LATENT, 40])
def test_each_latent_of_a_step_depends_on_those_before_it_only(latent_size):
    step = build("flow", latent_size, num_steps=1, hidden_width=16).steps[0]
    z = tf.random.stateless_normal((1, latent_size), SEED)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        mean, logvar = step(z, condition(1))
    for output in (mean, logvar):
        jacobian = np.abs(tape.batch_jacobian(output, z)[0])
        assert np.all(jacobian[np.triu_indices(latent_size)] == 0)
        assert np.all(jacobian[np.tril_indices(latent_size, -1)] > 0)
