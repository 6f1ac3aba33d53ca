"""Completions against the exact p(x_missing | x_known) of models so small that all images and codes can be listed."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import vae
from parts import autoregressive
from trained import completion
from trained.completion import Completer

SHAPE, NUM = (2, 2, 1), 4000
IMAGES = np.array(list(itertools.product([0.0, 1.0], repeat=4)), np.float32).reshape(-1, *SHAPE)
KNOWN = np.array([[[True, False], [False, False]], [[False, False], [False, True]], [[False, True], [True, False]]])
X = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 0], [1, 0]]], np.float32)[..., None]
KINDS = {
    "factorized": ("vae", {}),
    "windowed": ("vlae", {"num_classes": 0, "prior": "gaussian", "window": 3, "pixel_dims": (6, 6)}),
    "classes": ("cvae", {"num_classes": 2, "prior": "gaussian"}),
    "windowed classes": ("vlae", {"num_classes": 2, "prior": "gaussian", "window": 3, "pixel_dims": (6, 6)}),
}
P_Y = np.array([0.3, 0.7])
FAR = 0.03  # total variation; of NUM exact draws of up to 8 images it is about 0.02 at most


@pytest.fixture(autouse=True)
def all_chains_at_once(monkeypatch):
    monkeypatch.setattr(completion, "CHAINS", len(X) * NUM)
    monkeypatch.setattr(autoregressive, "SAMPLE_BATCH", len(X) * NUM)


def build(kind: str):
    """A model whose encoder knows nothing of the posterior: only the acceptance rule makes its proposals right."""
    name, arguments = KINDS[kind]
    model = vae.build_model(name, data_shape=SHAPE, latent_size=1, network="mlp", hidden_dims=(6,), **arguments)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        scale = 0.5 if "prior" in variable.path else 1.3
        variable.assign(scale * rng.normal(size=variable.shape))
    head = model.encoder.head
    head.kernel.assign(head.kernel * [[0.6, 0.2]])  # codes that the decoder tells apart, moves of moderate length
    head.bias.assign([0.0, 0.0])
    return model


def exact(model, x, known, conditions) -> np.ndarray:
    """p(image | x_known) for each of the 16 images, by summing over a grid of codes; `conditions` are (p(y), y)."""
    noise = np.linspace(-6, 6, 1201, dtype=np.float32)[:, None]
    p_noise = np.exp(-0.5 * np.square(noise[:, 0], dtype=np.float64)) / np.sqrt(2 * np.pi) * 0.01
    p_x = np.zeros(len(IMAGES))
    for probability, y in conditions:
        condition = model.condition(tf.repeat(tf.constant(y, tf.float32)[None], len(noise), axis=0))
        params = model.likelihood_params(model.prior.from_noise(tf.constant(noise), condition), condition)
        for i, image in enumerate(IMAGES):
            log_p = model.likelihood.log_prob(np.repeat(image[None], len(noise), axis=0), params)
            p_x[i] += probability * (np.exp(log_p) * p_noise).sum()
    assert p_x.sum() == pytest.approx(1, abs=1e-3)
    p_x *= (x == IMAGES)[:, known].all(axis=(1, 2))
    return p_x / p_x.sum()


def shares(completions: np.ndarray) -> np.ndarray:
    return (completions[:, None] == IMAGES[None]).all(axis=(2, 3, 4)).mean(axis=0)


def distances(kind: str, labels, monkeypatch=None, **options) -> list[float]:
    """The total variation between completions and the exact distribution, for each of the images X."""
    model = build(kind)
    num_classes = model.arguments["num_classes"]
    given = None if labels is None else np.eye(num_classes, dtype=np.float32)[[labels] * len(X)]
    if num_classes == 0:
        given, conditions = np.zeros((len(X), 0), np.float32), [(1.0, [])]
    elif labels is None:
        conditions = list(zip(P_Y, np.eye(2), strict=True))
    else:
        conditions = [(1.0, np.eye(2)[labels])]
    completer = Completer(model, **({"free_moves": 5, "moves": 80} | options))
    completions = completer.fill_in(X, KNOWN, given, NUM, seed=3, class_probs=P_Y if labels is None else None)
    assert (completions[:, :, ..., 0] == X[:, None, ..., 0])[np.repeat(KNOWN[:, None], NUM, axis=1)].all()
    found = []
    for x, known, drawn in zip(X, KNOWN, completions, strict=True):
        found.append(0.5 * np.abs(shares(drawn) - exact(model, x, known, conditions)).sum())
    print(kind, labels, found, completer.acceptance)
    return found


CASES = [
    ("factorized", None),
    ("windowed", None),
    pytest.param("classes", 1, marks=pytest.mark.slow),
    pytest.param("classes", None, marks=pytest.mark.slow),
    pytest.param("windowed classes", None, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("kind", "labels"), CASES)
def test_completions_are_draws_from_the_exact_conditional(kind, labels):
    assert max(distances(kind, labels)) < FAR


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "labels"), CASES)
def test_chains_that_accept_every_move_fail_that_test(kind, labels):
    assert max(distances(kind, labels, free_moves=50, moves=0)) > 2 * FAR


def complete(model, x, known, num=3, seed=0, **options):
    """By a few moves; of two classes the first."""
    conditions = np.tile(np.eye(2, dtype=np.float32)[:1, : model.arguments["num_classes"]], (len(x), 1))
    return Completer(model, free_moves=2, moves=2).fill_in(x, known, conditions, num, seed, **options)


@pytest.fixture
def few_chains_at_once(monkeypatch):
    monkeypatch.setattr(completion, "FEW", 8)
    monkeypatch.setattr(autoregressive, "FEW", 8)


@pytest.mark.parametrize(
    ("shape", "likelihood", "window"),
    [
        ((2,), "sigma", 0),
        pytest.param((4, 3, 1), "bernoulli", 0, marks=pytest.mark.slow),
        pytest.param((4, 3, 3), "gaussian", 0, marks=pytest.mark.slow),
        pytest.param((4, 3, 3), "logistic", 3, marks=pytest.mark.slow),
    ],
)
def test_what_is_known_stays_and_the_seed_decides_the_rest(few_chains_at_once, shape, likelihood, window):
    arguments = {"prior": "flow", "window": window, "pixel_dims": (4, 4)} if window else {}
    model = vae.build_model(
        "vlae" if window else "vae",
        data_shape=shape,
        latent_size=2,
        hidden_dims=(4,),
        likelihood=likelihood,
        **arguments,
    )
    rng = np.random.default_rng(0)
    x = (rng.integers(0, 256, (7, *shape)) / 255).astype(np.float32)
    known = rng.random((7, *shape[:2])) < 0.5
    everywhere = np.broadcast_to(known[..., None] if len(shape) == 3 else known, x.shape)
    drawn = complete(model, x, known)
    assert drawn.shape == (7, 3, *shape)
    assert np.isfinite(drawn).all()
    for i in range(3):
        np.testing.assert_array_equal(drawn[:, i][everywhere], x[everywhere])
        assert (drawn[:, i] != drawn[:, i - 1])[~everywhere].any(), "completions differ"
    np.testing.assert_array_equal(complete(model, np.where(everywhere, x, 0.123), known), drawn, "missing is missing")
    assert np.any(complete(model, x, known, seed=1) != drawn)
    # Examples in blocks of any size: the noise of an example does not depend on how many come after it.
    np.testing.assert_allclose(complete(model, x[:3], known[:3]), drawn[:3], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_any_number_of_examples_is_compiled_once(few_chains_at_once):
    completer = Completer(build("classes"), free_moves=2, moves=2)
    completer.fill_in(X, KNOWN, np.eye(2, dtype=np.float32)[[0, 1, 0]], 3, 0)
    completer.fill_in(X[:1], KNOWN[:1], np.eye(2, dtype=np.float32)[:1], 20, 0)
    assert completer.run.experimental_get_tracing_count() == 1
    completer.fill_in(X, KNOWN, None, 2, 0)
    completer.fill_in(X[:2], KNOWN[:2], None, 1, 0)
    assert completer.run.experimental_get_tracing_count() <= 3


def test_shown_as_a_mean_what_is_missing_is_the_mean_of_pixels(few_chains_at_once):
    model = build("factorized")
    means = complete(model, X, KNOWN, num=8, show_mean=True)
    draws = complete(model, X, KNOWN, num=8)
    missing = np.repeat(~KNOWN[:, None], 8, axis=1)
    assert ((means[missing] > 0) & (means[missing] < 1)).all()
    assert np.isin(draws, (0, 1)).all()


@pytest.mark.slow
def test_a_class_that_training_never_saw_is_not_drawn(few_chains_at_once):
    model = build("windowed classes")
    completer = Completer(model, free_moves=2, moves=2)
    probs = np.array([0.0, 1.0])
    assert np.isfinite(completer.fill_in(X, KNOWN, None, 3, 0, class_probs=probs)).all()
    with np.errstate(divide="ignore"):
        everywhere = X, KNOWN[..., None], np.eye(2, dtype=np.float32), np.log(probs), tf.constant([0, 0])
    np.testing.assert_allclose(np.exp(completer.class_proposals(*everywhere)), [probs] * 3, atol=1e-6)
