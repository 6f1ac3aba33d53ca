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
from training import loop, optimizers, steps
from training.progress import FIGURES, ProgressBar
from training.steps import Steps, block_size
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
        np.testing.assert_array_equal(a, b)
    for slot, value in zip(averaged.optimizer.slots, expected, strict=True):
        np.testing.assert_allclose(slot.average, value, atol=1e-5)


def test_the_optimizers_variables_have_the_order_of_the_checkpoints():
    optimizer = build().optimizer
    slots = optimizer.slots
    expected = [optimizer.iterations, optimizer.learning_rate]
    expected += [variable for slot in slots for variable in (slot.momentum, slot.velocity)]
    expected += [slot.average for slot in slots]
    assert len(slots) == len(weights(build())) == 8
    assert all(found is variable for found, variable in zip(optimizer.variables, expected, strict=True))


def test_other_variables_than_the_optimizers_are_refused():
    model = build()
    variables = model.trainable_variables[::-1]
    with pytest.raises(ValueError, match="built with other variables"):
        model.optimizer.apply([tf.zeros(variable.shape) for variable in variables], variables)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_gradients_are_clipped_together(size):
    gradients = [size * tf.ones((3, 2)), size * tf.ones((10,))]  # of norm 4 * size
    expected, _ = tf.clip_by_global_norm(gradients, 4.0)
    for found, value in zip(optimizers.clipped(gradients, 4.0), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-6)


def test_one_gradient_that_is_not_finite_spoils_all():
    for worst in (np.nan, np.inf):
        assert not np.any(np.isfinite(optimizers.clipped([tf.ones(2), tf.constant([worst])], 4.0)[0]))


@pytest.mark.parametrize("shape", [(20, 7), (7, 20), (9, 9)])
def test_orthogonalizing_keeps_directions_and_evens_out_their_sizes(shape):
    matrix = tf.random.stateless_normal(shape, [3, 4])
    u, sizes, v = np.linalg.svd(matrix, full_matrices=False)
    rotated = u.T @ optimizers.orthogonalized(matrix).numpy() @ v.T
    assert sizes.max() > 2 * sizes.min()
    np.testing.assert_allclose(rotated, np.diag(np.diag(rotated)), atol=1e-5)
    assert np.all(np.abs(np.diag(rotated) - 1) < 0.4)


@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-7])
def test_orthogonalizing_through_the_gram_matrix_is_newton_schulz(smallest):
    u, _, v = np.linalg.svd(np.random.default_rng(0).normal(size=(300, 40)), full_matrices=False)
    matrix = u * np.geomspace(1.0, smallest, 40) @ v
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x.T @ x
        x = 3.4445 * x + x @ (-4.7750 * gram + 2.0315 * gram @ gram)
    for ours, expected in ((matrix, x), (matrix.T, x.T)):
        found = optimizers.orthogonalized(tf.constant(ours, tf.float32)).numpy()
        assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_muon_turns_kernels_and_leaves_the_rest_to_adam():
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
    muon, adam = steps(optimizers.AveragedMuon(0.01, lr_decay_steps=4)), steps(optimizers.AveragedAdam(0.01))
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


def test_weight_decay_shrinks_kernels_only():
    keras.utils.set_random_seed(0)
    start = [tf.random.normal(shape) for shape in ((6, 5), (5,))]
    gradients = [tf.random.normal(value.shape) for value in start]

    def after_step(**options):
        variables = [keras.Variable(value) for value in start]
        optimizers.AveragedMuon(0.01, **options).apply(gradients, variables)
        return [variable.numpy() for variable in variables]

    plain, decayed = after_step(), after_step(weight_decay=0.5)
    np.testing.assert_allclose(decayed[0], plain[0] - 0.01 * 0.5 * start[0], atol=1e-7)
    np.testing.assert_array_equal(decayed[1], plain[1])


def test_exchanging_weights_twice_changes_no_bit():
    model = build()
    for t in range(5):
        step(model, t)
    before, averages = weights(model), [slot.average.numpy() for slot in model.optimizer.slots]
    with loop.exchanged_weights(model):
        assert all(np.array_equal(a, b) for a, b in zip(weights(model), averages, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(weights(model), before, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(weights(model), before, strict=True))


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_for_terminals_only(monkeypatch, terminal):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", screen)
    with ProgressBar(first=1, num_epochs=3) as progress:
        progress.start_epoch(1, num_steps=10)
        progress.update(5, dict.fromkeys(FIGURES, 1.5))
        assert progress.bar.n == (5 if terminal else 0)
        progress.bar.refresh()
    shown = screen.getvalue()
    assert ("epoch 2/3" in shown) == ("5/20" in shown) == terminal
    for figure in FIGURES:
        assert (f"{figure}=1.50" in shown) == terminal


def test_the_progress_bar_goes_on_within_an_epoch(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    with ProgressBar(first=1, num_epochs=3) as progress:
        progress.start_epoch(1, num_steps=10, step=4)
        progress.update(6, dict.fromkeys(FIGURES, 1.5))
        assert progress.bar.n == 6
        progress.start_epoch(2, num_steps=10)
        progress.update(1, dict.fromkeys(FIGURES, 1.5))
        assert progress.bar.n == 11


def fit(steps, batches):
    with loop.exchanged_weights(steps.model):
        return [num_steps for num_steps, _ in steps.train(batches)]


def binarized_batches():
    """18 batches of 5."""
    x = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 1), dtype=np.uint8)
    examples = Examples(x, np.eye(2, dtype=np.uint8)[np.arange(90) % 2])
    return training_batches(examples, 5, seed=3, binarize="dynamic")


@pytest.mark.parametrize(
    "compiled", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("nothing", "step")), "loop"]
)
def test_blocks_of_steps_do_what_single_steps_do(compiled, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS["mlp"], "compiled", compiled)
    batches = binarized_batches()(0)
    in_blocks, one_by_one = build(), build()
    single_step = tf.function(one_by_one.train_step)
    assert fit(Steps(in_blocks), batches) == [16, 18]
    with loop.exchanged_weights(one_by_one):
        for batch in batches:
            logs = single_step(batch)
    assert int(in_blocks.optimizer.iterations) == 18
    for a, b in zip(weights(in_blocks), weights(one_by_one), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)  # a step moves a weight by 1e-3
    for metric in in_blocks.metrics:
        np.testing.assert_allclose(metric.result(), logs[metric.name], rtol=1e-5)


@pytest.mark.parametrize(("shape", "compiles"), [((4, 4, 1), False), ((2,), True)])
def test_xla_compiles_a_vlae_of_points_and_nothing_of_one_of_images(shape, compiles, xla, monkeypatch):
    model, asked, function = build_model("vlae", data_shape=shape, num_classes=2, prior="flow"), [], tf.function
    monkeypatch.setattr(
        tf, "function", lambda *args, **kwargs: asked.append(kwargs.get("jit_compile")) or function(*args, **kwargs)
    )
    steps.block_function(model)
    assert any(asked) == compiles


def test_blocks_end_where_a_save_is_due():
    steps = Steps(build())
    ends = [num_steps for num_steps, _ in steps.train(binarized_batches()(0), save_every_steps=6)]
    assert ends == [*range(2, 19, 2)]


def test_a_step_is_traced_once_for_all_epochs_and_wherever_they_begin():
    steps, epoch_batches = Steps(build()), binarized_batches()
    for batches in (epoch_batches(0), epoch_batches(1), epoch_batches(2, 7)):
        fit(steps, batches)
        assert len(list(steps.test(batches))) == len(batches)
        assert len(list(steps.test(batches.take(1)))) == 1
    assert steps.train_next.experimental_get_tracing_count() == 1
    assert steps.test_next.experimental_get_tracing_count() == 1


# Plain Keras


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        pytest.param("vae", "adam", marks=pytest.mark.slow),
        ("cvae", keras.optimizers.SGD),
        pytest.param("vlae", "adam", marks=pytest.mark.slow),
    ],
)
def test_plain_keras_trains_and_evaluates_a_model(model, optimizer):
    keras.utils.set_random_seed(0)
    more = {"prior": "flow", "window": 3} if model == "vlae" else {}
    built = build_model(model, data_shape=(4, 4, 1), num_classes=2, latent_size=2, hidden_dims=(6,), **more)
    batches = binarized_batches()(0)
    built.compile(optimizer=optimizer if optimizer == "adam" else optimizer(0.02))
    before = built.evaluate(batches, verbose=0, return_dict=True)
    history = built.fit(batches, epochs=4, verbose=0).history
    after = built.evaluate(batches, verbose=0, return_dict=True)
    assert int(built.optimizer.iterations) == 4 * 18
    assert set(FIGURES) <= set(history)
    assert history["loss"][-1] < history["loss"][0]
    assert after["elbo"] > before["elbo"]
    assert after["elbo"] == pytest.approx(-after["rate"] - after["distortion"], rel=1e-5)


def test_plain_keras_takes_the_steps_that_the_loop_takes():
    ours, plain = build(), build()
    batches = binarized_batches()(0)
    fit(Steps(ours), batches)
    plain.compile(keras.optimizers.Adam(1e-3, beta_2=0.99), jit_compile=False)
    plain.fit(batches, verbose=0, shuffle=False)
    for slot, value in zip(ours.optimizer.slots, weights(plain), strict=True):
        np.testing.assert_allclose(slot.average, value, atol=1e-6)  # where the weights are outside of training


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
        compiled_steps = Steps(model)
        for _ in range(3):
            model.reset_metrics()
            fit(compiled_steps, batches)
        losses.append([float(tracker.result()) for tracker in model.trackers])
        assert {variable.dtype for variable in model.variables} <= {"float32", "int32", "int64"}
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.01, atol=0.05)
    assert losses[1] != losses[0]


def test_large_batches_come_in_smaller_blocks(monkeypatch):
    model = build()
    assert block_size(model, tf.TensorShape((8, 4, 4, 1))) == 16
    monkeypatch.setattr(steps, "BLOCK_BYTES", 5 * 8 * 16 * 4)
    assert block_size(model, tf.TensorShape((8, 4, 4, 1))) == 4
    assert block_size(model, tf.TensorShape((800, 4, 4, 1))) == 1
