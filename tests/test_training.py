import io
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import training
from vae import build_model


def build():
    keras.utils.set_random_seed(0)
    model = build_model("vae", data_shape=(4, 4, 1), num_classes=2, latent_size=2, hidden_dims=(6,))
    training.compile_model(model)
    return model


def weights(model):
    return [variable.numpy() for variable in model.trainable_variables]


def step(model, number):
    x = tf.random.stateless_uniform((8, 4, 4, 1), [1, number])
    model.train_step((x, tf.zeros((8, 2)), tf.constant([0, number])))


def test_the_average_follows_its_formula_and_leaves_adam_alone():
    averaged, plain = build(), build()
    plain.compile(keras.optimizers.Adam(1e-3, beta_2=0.99))
    plain.optimizer.build(plain.trainable_variables)
    expected = weights(averaged)
    for t in range(30):
        step(averaged, t)
        step(plain, t)
        momentum = min(averaged.optimizer.averaging, t / (t + 9))
        expected = [momentum * a + (1 - momentum) * w for a, w in zip(expected, weights(plain), strict=True)]
    for a, b in zip(weights(averaged), weights(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for average, value in zip(averaged.optimizer.averages, expected, strict=True):
        np.testing.assert_allclose(average, value, atol=1e-5)


def test_exchanging_weights_twice_changes_no_bit():
    model = build()
    for t in range(5):
        step(model, t)
    before, averages = weights(model), [average.numpy() for average in model.optimizer.averages]
    with training.training_weights(model):
        assert all(np.array_equal(a, b) for a, b in zip(weights(model), averages, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(weights(model), before, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(weights(model), before, strict=True))


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_for_terminals_only(monkeypatch, terminal):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", screen)
    with training.ProgressBar(first=1, num_epochs=3) as progress:
        callback = progress.follow(1, num_steps=10)
        callback.on_train_batch_end(4, dict.fromkeys(training.FIGURES, 1.5))
        assert progress.bar.n == (5 if terminal else 0)
        progress.bar.refresh()
    shown = screen.getvalue()
    assert ("epoch 2/3" in shown) == ("5/20" in shown) == terminal
    for figure in training.FIGURES:
        assert (f"{figure}=1.50" in shown) == terminal
