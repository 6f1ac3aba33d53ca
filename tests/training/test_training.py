import io
import math
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from parts import networks
from sources.batches import training_batches
from sources.examples import Examples
from training import loop, optimizers
from vae import build_model


def build():
    keras.utils.set_random_seed(0)
    model = build_model("vae", data_shape=(4, 4, 1), num_classes=2, latent_size=2, hidden_dims=(6,))
    loop.compile_model(model)
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


@pytest.mark.parametrize("shape", [(20, 7), (7, 20), (9, 9)])
def test_orthogonalizing_keeps_directions_and_evens_out_their_sizes(shape):
    matrix = tf.random.stateless_normal(shape, [3, 4])
    u, sizes, v = np.linalg.svd(matrix, full_matrices=False)
    rotated = u.T @ optimizers.orthogonalized(matrix).numpy() @ v.T
    assert sizes.max() > 2 * sizes.min()
    np.testing.assert_allclose(rotated, np.diag(np.diag(rotated)), atol=1e-5)
    assert np.all(np.abs(np.diag(rotated) - 1) < 0.4)


def test_muon_turns_kernels_and_leaves_the_rest_to_adam(monkeypatch):
    monkeypatch.setattr(optimizers.AveragedMuon, "DECAY_STEPS", 4)
    keras.utils.set_random_seed(0)
    start = [tf.random.normal(shape) for shape in ((3, 3, 2, 8), (6, 5), (5,), (4, 4, 3))]
    gradients = [[tf.random.normal(value.shape) for value in start] for _ in range(3)]

    def steps(optimizer):
        variables = [keras.Variable(value) for value in start]
        optimizer.build(variables)
        for gradient in gradients:
            before = [variable.numpy() for variable in variables]
            optimizer.apply(gradient, variables)
        return [variable.numpy() - old for variable, old in zip(variables, before, strict=True)]

    decay = 1.5  # at the third step, number 2 from 0
    muon, adam = steps(optimizers.AveragedMuon(0.01)), steps(optimizers.AveragedAdam(0.01))
    for ours, adams in zip(muon[2:], adam[2:], strict=True):
        np.testing.assert_allclose(ours, adams / decay, atol=1e-6)
    for number, step in enumerate(muon[:2]):
        first, second, third = (gradient[number].numpy() for gradient in gradients)
        momentum = 0.95 * (0.95 * first + second) + third
        direction = (third + 0.95 * momentum).reshape(-1, step.shape[-1])
        size = 0.01 / decay * optimizers.AveragedMuon.ROOT_MEAN_SQUARE
        expected = -size * math.sqrt(max(direction.shape)) * optimizers.orthogonalized(tf.constant(direction))
        np.testing.assert_allclose(step.reshape(direction.shape), expected, atol=1e-5)
        assert np.sqrt(np.mean(np.square(step))) == pytest.approx(size, rel=0.2)


def test_exchanging_weights_twice_changes_no_bit():
    model = build()
    for t in range(5):
        step(model, t)
    before, averages = weights(model), [average.numpy() for average in model.optimizer.averages]
    with loop.exchanged_weights(model):
        assert all(np.array_equal(a, b) for a, b in zip(weights(model), averages, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(weights(model), before, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(weights(model), before, strict=True))


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_for_terminals_only(monkeypatch, terminal):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", screen)
    with loop.ProgressBar(first=1, num_epochs=3) as progress:
        callback = progress.follow(1, num_steps=10)
        callback.on_train_batch_end(4, dict.fromkeys(loop.FIGURES, 1.5))
        assert progress.bar.n == (5 if terminal else 0)
        progress.bar.refresh()
    shown = screen.getvalue()
    assert ("epoch 2/3" in shown) == ("5/20" in shown) == terminal
    for figure in loop.FIGURES:
        assert (f"{figure}=1.50" in shown) == terminal


@pytest.mark.parametrize("compiled", ["nothing", "step", "loop"])
def test_blocks_of_steps_do_what_single_steps_do(compiled, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS["mlp"], "compiled", compiled)
    x = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 1), dtype=np.uint8)
    examples = Examples(x, np.eye(2, dtype=np.uint8)[np.arange(90) % 2])
    batches = training_batches(examples, 5, seed=3, binarize="dynamic")(0)  # 18: a block of 16, and one of 2
    in_blocks, one_by_one = build(), build()
    single_step = tf.function(one_by_one.train_step)
    loop.fit(in_blocks, batches)
    with loop.exchanged_weights(one_by_one):
        for batch in batches:
            logs = single_step(batch)
    assert int(in_blocks.optimizer.iterations) == 18
    for a, b in zip(weights(in_blocks), weights(one_by_one), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)  # a step moves a weight by 1e-3
    for metric in in_blocks.metrics:
        np.testing.assert_allclose(metric.result(), logs[metric.name], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "compiled"), [("mlp", "loop"), ("conv", "step")])
def test_mixed_precision_under_xla_learns_the_same_in_float32(network, compiled, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS[network], "compiled", compiled)
    x = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    batches = training_batches(Examples(x, np.zeros((64, 0), np.uint8)), 8, seed=3, binarize="none")(0)
    losses = []
    for mixed_precision in (False, True):
        keras.utils.set_random_seed(0)
        model = build_model(
            "vae", data_shape=(8, 8, 1), network=network, hidden_dims=(8, 8), mixed_precision=mixed_precision
        )
        loop.compile_model(model, 1e-2)
        for _ in range(3):
            loop.fit(model, batches)
        losses.append([float(tracker.result()) for tracker in model.trackers])
        assert {variable.dtype for variable in model.variables} <= {"float32", "int32", "int64"}
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.01, atol=0.05)
    assert losses[1] != losses[0]


def test_large_batches_come_in_smaller_blocks(monkeypatch):
    model = build()
    assert loop.block_size(model, tf.TensorShape((8, 4, 4, 1))) == 16
    monkeypatch.setattr(loop, "BLOCK_BYTES", 5 * 8 * 16 * 4)
    assert loop.block_size(model, tf.TensorShape((8, 4, 4, 1))) == 4
    assert loop.block_size(model, tf.TensorShape((800, 4, 4, 1))) == 1
