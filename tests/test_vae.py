import keras
import numpy as np
import pytest
import tensorflow as tf

import vae
from parts.networks import LOGVAR_BOUND, bounded_logvar
from parts.priors import StandardNormalPrior

SEED = tf.constant([3, 4])


def build(model="vae", **kwargs):
    keras.utils.set_random_seed(0)
    kwargs = {"data_shape": (6, 5, 1), "num_classes": 3, "latent_size": 2, "hidden_dims": (8,)} | kwargs
    return vae.build_model(model, **kwargs)


def batch(num=7, shape=(6, 5, 1), num_classes=3):
    x = tf.random.stateless_uniform((num, *shape), SEED)
    return x, tf.one_hot(np.arange(num) % num_classes, num_classes), SEED


def make_trainable(model, learning_rate=1e-2):
    model.compile(keras.optimizers.Adam(learning_rate))
    model.optimizer.build(model.trainable_variables)
    return model


def snapshot(model):
    return [variable.numpy() for variable in model.trainable_variables]


# The terms of the bound


def test_closed_form_rate_is_the_monte_carlo_estimate_of_the_kl():
    mean, logvar = tf.constant([[0.5, -1.5, 0.0]]), tf.constant([[0.3, -2.0, 1.0]])
    z = vae.reparameterize(tf.repeat(mean, 200_000, axis=0), tf.repeat(logvar, 200_000, axis=0), SEED)
    log_q = -0.5 * (np.square(z - mean) / np.exp(logvar) + logvar + np.log(2 * np.pi))
    log_p = -0.5 * (np.square(z) + np.log(2 * np.pi))
    rates = StandardNormalPrior(3).latent_rates(mean, logvar, None)
    np.testing.assert_allclose(rates[0], np.mean(log_q - log_p, axis=0), atol=0.02)


def test_reparameterized_codes_have_the_posterior_moments_and_gradients():
    mean, logvar = tf.Variable(tf.fill((50_000, 1), 2.0)), tf.Variable(tf.fill((50_000, 1), -1.0))
    with tf.GradientTape() as tape:
        z = vae.reparameterize(mean, logvar, SEED)
    assert np.mean(z) == pytest.approx(2.0, abs=0.02)
    assert np.var(z) == pytest.approx(np.exp(-1.0), rel=0.02)
    d_mean, d_logvar = tape.gradient(z, [mean, logvar])
    np.testing.assert_allclose(d_mean, 1.0)
    np.testing.assert_allclose(d_logvar, 0.5 * (z - mean), atol=1e-5)


def test_logvar_is_bounded_and_never_stops_learning():
    raw = tf.Variable([-1e4, -20.0, 0.5, 20.0, 1e4])
    with tf.GradientTape() as tape:
        logvar = bounded_logvar(raw)
    assert np.max(np.abs(logvar)) <= LOGVAR_BOUND
    assert float(logvar[2]) == pytest.approx(0.5, abs=1e-3)
    gradient = tape.gradient(logvar, raw).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[1:4] > 0).all()


def test_elbo_is_a_lower_bound_on_log_p_x():
    """log p(x) by brute force: the likelihood averaged over a fine grid of codes under the prior."""
    model = build("vae", latent_size=1, data_shape=(2, 2, 1), hidden_dims=(4,))
    x = tf.constant([[[[1.0], [0.0]], [[0.0], [1.0]]]])
    z = np.linspace(-8, 8, 2001, dtype=np.float32)[:, None]
    log_likelihood = model.likelihood.log_prob(tf.repeat(x, len(z), axis=0), model.decoder(z))
    log_prior = -0.5 * np.square(z[:, 0]) - 0.5 * np.log(2 * np.pi)
    log_p_x = float(tf.reduce_logsumexp(log_likelihood + log_prior)) + np.log(z[1, 0] - z[0, 0])
    distortion, rates = model.terms(tf.repeat(x, 20_000, axis=0), None, SEED)
    elbo = -float(tf.reduce_mean(distortion) + tf.reduce_mean(tf.reduce_sum(rates, axis=1)))
    assert elbo < log_p_x
    assert elbo > log_p_x - 2


def test_terms_are_per_example_and_shared_by_training_and_testing():
    model = make_trainable(build())
    x, labels, seed = batch()
    distortion, rates = model.terms(x, labels, seed)
    assert distortion.shape == (7,)
    assert rates.shape == (7, 2)
    tested = model.test_step((x, labels, seed))
    model.reset_metrics()
    trained = model.train_step((x, labels, seed))  # its figures are those of before the step
    for name in ("loss", "elbo", "rate", "distortion"):
        assert float(tested[name]) == pytest.approx(float(trained[name]))
    assert float(tested["elbo"]) == pytest.approx(-float(tested["distortion"]) - float(tested["rate"]), rel=1e-6)


def test_beta_warmup_and_free_bits_are_in_the_loss_and_never_in_the_elbo():
    x, labels, seed = batch()
    plain = make_trainable(build()).test_step((x, labels, seed))
    rate, distortion = float(plain["rate"]), float(plain["distortion"])
    assert float(plain["loss"]) == pytest.approx(distortion + rate, rel=1e-5)

    weighted = make_trainable(build(beta=4.0)).test_step((x, labels, seed))
    assert float(weighted["loss"]) == pytest.approx(distortion + 4 * rate, rel=1e-5)

    warming = make_trainable(build(beta=4.0, warmup_steps=10))
    assert float(warming.test_step((x, labels, seed))["loss"]) == pytest.approx(distortion, rel=1e-5)
    for step, share in ((5, 0.5), (10, 1.0), (99, 1.0)):
        warming.optimizer.iterations.assign(step)
        assert float(warming.rate_weight()) == pytest.approx(4 * share)

    generous = make_trainable(build(free_bits=50.0)).test_step((x, labels, seed))
    assert float(generous["loss"]) == pytest.approx(distortion + 2 * 50, rel=1e-5)

    for figures in (weighted, generous):
        assert float(figures["elbo"]) == pytest.approx(float(plain["elbo"]), rel=1e-6)


def test_a_smaller_last_batch_counts_by_its_examples():
    model = make_trainable(build())
    x, labels, seed = batch(num=6)
    distortion = np.concatenate([model.terms(x[:4], labels[:4], seed)[0], model.terms(x[4:], labels[4:], seed)[0]])
    model.test_step((x[:4], labels[:4], seed))
    figures = model.test_step((x[4:], labels[4:], seed))
    assert float(figures["distortion"]) == pytest.approx(distortion.mean(), rel=1e-5)


# Steps


def test_training_moves_every_weight_and_testing_none():
    model = make_trainable(build("cvae"))
    before = snapshot(model)
    model.test_step(batch())
    assert all(np.array_equal(a, b) for a, b in zip(before, snapshot(model), strict=True))
    for _ in range(2):
        model.train_step(batch())
    assert not any(np.array_equal(a, b) for a, b in zip(before, snapshot(model), strict=True))


def test_a_step_is_a_pure_function_of_weights_and_batch():
    results = []
    for _ in range(2):
        model = make_trainable(build())
        model.train_step(batch())
        results.append(snapshot(model))
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    other = make_trainable(build())
    x, labels, seed = batch()
    other.train_step((x, labels, seed + 1))
    assert not all(np.array_equal(a, b) for a, b in zip(results[0], snapshot(other), strict=True))


def test_training_lowers_the_loss():
    model = make_trainable(build(), learning_rate=3e-2)
    x, labels, seed = batch(num=32)
    losses = []
    for step in range(60):
        model.reset_metrics()
        losses.append(float(model.train_step((tf.round(x), labels, seed + step))["loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1


# Conditioning


def test_cvae_reads_the_label_in_encoder_and_decoder_and_vae_does_not():
    x, labels, _ = batch()
    other = tf.roll(labels, 1, axis=1)
    z = tf.random.stateless_normal((7, 2), SEED)
    conditional, unconditional = build("cvae"), build("vae")
    assert not np.allclose(conditional.encode(x, labels)[0], conditional.encode(x, other)[0])
    assert not np.allclose(conditional.decode(z, labels), conditional.decode(z, other))
    assert np.array_equal(unconditional.encode(x, labels)[0], unconditional.encode(x, other)[0])
    assert np.array_equal(unconditional.decode(z, labels), unconditional.decode(z))


def test_cvae_without_labels_says_so():
    with pytest.raises(ValueError, match="needs labels"):
        build("cvae").sample(3)


# Networks of any size


@pytest.mark.parametrize("model", ["vae", "cvae"])
@pytest.mark.parametrize(
    ("network", "shape", "hidden_dims"),
    [
        ("mlp", (28, 28, 1), (32, 16)),
        ("mlp", (9, 7, 3), (8,)),
        ("conv", (28, 28, 1), (4, 8)),
        ("conv", (28, 20, 1), (4, 8, 8)),
        ("conv", (9, 7, 3), (4, 8)),
    ],
)
def test_outputs_have_the_shape_of_the_data(model, network, shape, hidden_dims):
    built = build(model, network=network, data_shape=shape, hidden_dims=hidden_dims, latent_size=4)
    x, labels, _ = batch(3, shape)
    mean, logvar = built.encode(x, labels)
    assert mean.shape == logvar.shape == (3, 4)
    assert built.decode(mean, labels).shape == x.shape
    assert built(x, labels).shape == x.shape
    assert built.sample(3, labels, seed=1).shape == x.shape


def test_too_many_halvings_are_refused():
    with pytest.raises(ValueError, match="4 hidden_dims halve 9x7 images to nothing: give fewer"):
        build(network="conv", data_shape=(9, 7, 1), hidden_dims=(4, 4, 4, 4))


def test_hidden_dims_set_widths_reversed_in_the_decoder_and_are_not_changed():
    widths = [12, 5]
    built = build(hidden_dims=widths)
    shapes = [tuple(v.shape) for v in built.trainable_variables if v.path.endswith("kernel")]
    assert shapes == [(30, 12), (12, 5), (5, 4), (2, 5), (5, 12), (12, 30)]
    assert widths == [12, 5]


def test_a_fresh_decoder_answers_with_the_mean_of_the_data():
    mean = np.random.default_rng(0).uniform(0.01, 0.99, (6, 5, 1)).astype(np.float32)
    model = build()
    model.start_at_mean(mean)
    np.testing.assert_allclose(model.decode(np.zeros((1, 2), np.float32))[0], mean, atol=1e-4)


def test_sampling_is_repeatable_by_seed():
    model = build()
    assert np.array_equal(model.sample(5, seed=1), model.sample(5, seed=1))
    assert not np.array_equal(model.sample(5, seed=1), model.sample(5, seed=2))


# What models say of themselves


@pytest.mark.parametrize(
    ("model", "arguments", "bound_on", "p_x", "p_z"),
    [
        ("vae", {}, "log p(x)", "p(x|z)", "p(z)"),
        ("vae", {"prior": "gaussian"}, "log p(x)", "p(x|z)", "p(z)"),
        ("vae", {"prior": "flow"}, "log p(x)", "p(x|z)", "p(z)"),
        ("cvae", {}, "log p(x|y)", "p(x|z, y)", "p(z)"),
        ("cvae", {"prior": "gaussian"}, "log p(x|y)", "p(x|z, y)", "p(z|y)"),
        ("cvae", {"prior": "flow"}, "log p(x|y)", "p(x|z, y)", "p(z|y)"),
        ("vlae", {"prior": "gaussian"}, "log p(x|y)", "p(x|z)", "p(z|y)"),
        ("vlae", {"prior": "flow", "num_classes": 0}, "log p(x)", "p(x|z)", "p(z)"),
        ("vlae", {"prior": "standard"}, "log p(x)", "p(x|z)", "p(z)"),
    ],
)
def test_a_model_says_what_labels_do_in_it(model, arguments, bound_on, p_x, p_z):
    built = build(model, **arguments)
    assert (built.bound_on, built.p_x_notation, built.p_z_notation) == (bound_on, p_x, p_z)
    assert built.labels_reach_decoder == (model == "cvae")
    assert built.rates_are_per_latent == (arguments.get("prior") != "flow")


@pytest.mark.parametrize("model", ["vae", "cvae"])
def test_a_window_is_refused_where_the_model_has_none(model):
    with pytest.raises(ValueError, match=f"a {model} has no window"):
        build(model, window=3)


@pytest.mark.parametrize("model", ["vae", "cvae"])
@pytest.mark.parametrize("prior", ["gaussian", "flow"])
def test_a_learned_prior_learns_with_the_rest_and_is_sampled(model, prior):
    """With the label where the model has it: two classes then have samples of their own."""
    built = make_trainable(build(model, prior=prior))
    before = [weight.numpy() for weight in built.prior.trainable_variables]
    x, labels, seed = batch()
    for _ in range(2):
        built.train_step((x, labels, seed))
    for weight, old in zip(built.prior.trainable_variables, before, strict=True):
        assert not np.array_equal(weight, old), weight.path
    for weight in built.prior.trainable_variables:
        weight.assign_add(0.3 * tf.random.normal(weight.shape))
    of_class = [built.prior.sample(5, SEED, built.condition(tf.one_hot([number] * 5, 3))) for number in (0, 1)]
    assert np.array_equal(*of_class) == (model == "vae")
    assert built.sample(5, labels[:5], seed=1).shape == (5, 6, 5, 1)
