"""The variational lossy autoencoder: its parts together, and the whole script with it."""

import contextlib
import itertools
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_same_tensors, metrics

import vae
from storage.checkpoints import read_header, save_model_weights

SEED = tf.constant([3, 4])
RUN = "outputs/vlae/mnist"
SMALL = "--model vlae --network conv --hidden_dims 4 8 --window 3 --pixel_dims 8 8 --num_samples 2".split()
SMALL += ["--warmup_epochs", "0"]
CHECKPOINT = "model_ckpts/vlae/mnist/vlae.weights.h5"


@pytest.fixture
def trained_vlae(trained):
    """A folder with two epochs of a tiny VLAE."""
    return trained(*SMALL)


def build(**kwargs):
    keras.utils.set_random_seed(0)
    arguments = {"data_shape": (8, 7, 1), "num_classes": 3, "latent_size": 2, "network": "resnet", "prior": "flow"}
    return vae.build_model("vlae", **(arguments | {"hidden_dims": (4, 4), "window": 3} | kwargs))


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        pytest.param({"window": 0}, marks=pytest.mark.slow),
        pytest.param({"pixel_dims": (6, 6, 4)}, marks=pytest.mark.slow),
        {"pixel_dims": (5,), "window": 0},
        pytest.param({"pixel_dims": (5, 5), "network": "mlp"}, marks=pytest.mark.slow),
        pytest.param({"likelihood": "logistic"}, marks=pytest.mark.slow),
        pytest.param({"likelihood": "logistic", "window": 0}, marks=pytest.mark.slow),
        {"likelihood": "logistic", "data_shape": (8, 7, 3)},
        {"likelihood": "logistic", "data_shape": (8, 7, 3), "window": 0, "prior": "gaussian"},
        {"likelihood": "sigma", "data_shape": (2,), "network": "mlp", "window": 0},
        {"num_classes": 0},
        pytest.param({"network": "mlp", "prior": "standard"}, marks=pytest.mark.slow),
        pytest.param({"network": "conv", "prior": "gaussian", "num_classes": 0}, marks=pytest.mark.slow),
    ],
)
def test_parts_fit_together_and_every_weight_learns(kwargs):
    model = build(**kwargs)
    shape, num_classes = tuple(model.arguments["data_shape"]), model.arguments["num_classes"]
    x = tf.round(tf.random.stateless_uniform((6, *shape), SEED))
    labels = tf.one_hot(np.arange(6) % max(num_classes, 1), num_classes)
    for weight in model.trainable_variables:  # some start at zero, and so would those before them
        weight.assign_add(0.1 * tf.random.normal(weight.shape))
    with tf.GradientTape() as tape:
        distortion, rates = model.terms(x, labels, SEED)
        loss = model.objective(distortion, rates)
    assert distortion.shape == (6,)
    assert rates.shape == (6, 2)
    for weight, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True):
        assert gradient is not None, weight.path
        assert np.any(tf.convert_to_tensor(gradient) != 0), weight.path
    samples = model.sample(5, labels[:5], seed=1)
    assert samples.shape == (5, *shape)
    np.testing.assert_array_equal(samples, model.sample(5, labels[:5], seed=1))
    assert np.any(samples != model.sample(5, labels[:5], seed=2))


@pytest.mark.parametrize("window", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_a_checkpoint_that_does_not_say_its_pixel_layers_has_those_of_before(tmp_path, window):
    model = build(window=window)
    assert model.arguments.pop("pixel_dims") is None
    save_model_weights(model, tmp_path / "old.weights.h5", {})
    loaded = vae.load(tmp_path / "old.weights.h5").model
    shapes = [tuple(weight.shape) for weight in loaded.trainable_variables]
    assert (3, 3, 4, 4 * 32) in shapes
    assert shapes.count((32, 32)) == 2
    assert all(np.array_equal(found, saved) for found, saved in zip(loaded.weights, model.weights, strict=True))


def test_many_samples_are_made_in_blocks(monkeypatch):
    model = build(num_classes=0)
    whole = model.sample(7, seed=1)
    monkeypatch.setattr(vae, "SAMPLE_BLOCK", 3)
    parts = model.sample(7, seed=1)
    assert parts.shape == whole.shape
    assert len(np.unique(parts.numpy().reshape(7, -1), axis=0)) == 7, "each block with noise of its own"


def test_the_label_reaches_the_image_through_the_code_only():
    model = build()
    z = tf.random.stateless_normal((3, 2), SEED)
    np.testing.assert_array_equal(model.decode(z, tf.one_hot([0, 1, 2], 3)), model.decode(z, tf.one_hot([2, 2, 2], 3)))
    np.testing.assert_array_equal(model.decode(z), model.decode(z, tf.one_hot([2, 2, 2], 3)))


def test_labels_are_needed_where_the_model_has_classes():
    model = build()
    for call in (lambda: model.encode(tf.zeros((1, 8, 7, 1))), lambda: model.sample(1)):
        with pytest.raises(ValueError, match="needs labels"):
            call()
    assert build(num_classes=0).encode(tf.zeros((1, 8, 7, 1)))[0].shape == (1, 2)


def test_an_unconditional_model_takes_labels_and_ignores_them():
    x = tf.round(tf.random.stateless_uniform((3, 8, 7, 1), SEED))
    labels, others = tf.one_hot([0, 1, 2], 3), tf.one_hot([2, 2, 1], 3)
    for num_classes, is_same in ((0, True), (3, False)):
        model = build(num_classes=num_classes)
        for weight in model.trainable_variables:  # a flow starts as the identity
            weight.assign_add(0.1 * tf.random.normal(weight.shape))
        assert np.array_equal(model.encode(x, labels)[0], model.encode(x, others)[0]) == is_same
        terms = [np.concatenate([model.terms(x, y, SEED)[0], *model.terms(x, y, SEED)[1]]) for y in (labels, others)]
        assert np.array_equal(*terms) == is_same
        assert np.array_equal(*(model.prior.sample(3, SEED, model.condition(y)) for y in (labels, others))) == is_same


@pytest.mark.slow
def test_training_prefers_a_window_where_pixels_follow_their_neighbours():
    """On images of stripes the pixels above tell all but the first row: with a window the code has nothing to say."""
    stripes = np.array(list(itertools.product([0.0, 1.0], repeat=7)), np.float32)
    x = tf.repeat(stripes.reshape(-1, 1, 7, 1), 8, axis=1)
    found = {}
    for window in (0, 3):
        model = build(num_classes=0, window=window, prior="standard", hidden_dims=(8,))
        model.compile(keras.optimizers.Adam(1e-2))
        model.optimizer.build(model.trainable_variables)
        step = tf.function(lambda seed, model=model: model.train_step((x, None, seed)))
        for number in range(150):
            model.reset_metrics()
            found[window] = step(tf.constant([number, 0]))
    elbos = {window: float(logs["elbo"]) for window, logs in found.items()}
    assert elbos[3] > elbos[0] + 1
    assert -7 * np.log(2) - 1 < elbos[3] < -7 * np.log(2), "log p(x) of seven fair coins"
    assert float(found[3]["rate"]) < float(found[0]["rate"])


# The whole script


def test_a_run_draws_and_saves_every_epoch(trained_vlae):
    pictures = {path.name for path in (trained_vlae / RUN).glob("*.png")}
    assert {f"epoch_00{n}_{kind}.png" for n in (1, 2) for kind in ("samples", "reconstructions")} < pictures
    assert {path.name for path in (trained_vlae / "model_ckpts/vlae/mnist").iterdir()} == {
        "vlae.weights.h5",
        "epoch_001.weights.h5",
        "epoch_002.weights.h5",
    }
    figures = metrics(trained_vlae / RUN)
    assert {name: figures[name] for name in ("binarize", "likelihood", "prior", "window", "network")} == {
        "binarize": "dynamic",
        "likelihood": "bernoulli",
        "prior": "mixture",
        "window": 3,
        "network": "conv",
    }
    assert "log_p_x" not in figures["test"]


@pytest.mark.slow
def test_resumed_training_is_bit_identical(script, trained_vlae, tmp_path):
    first = trained_vlae / "model_ckpts/vlae/mnist/epoch_001.weights.h5"
    assert script("--checkpoint", first, "--num_epochs", 2, only=True) == 0
    assert_same_tensors(tmp_path / CHECKPOINT, trained_vlae / CHECKPOINT)


@pytest.mark.slow
def test_log_likelihoods_are_reported_with_their_conditions(script, trained_vlae, capsys):
    checkpoint = trained_vlae / CHECKPOINT
    assert (
        script(
            "--evaluate", "--checkpoint", checkpoint, "--num_importance_samples", 20, "--max_examples", 20, only=True
        )
        == 0
    )
    found = metrics(RUN)["test"]
    assert found["num_importance_samples"] == 20
    assert found["log_p_x_given_y"] > found["elbo"]
    assert found["log_p_x"] < found["log_p_x_given_y"] + 0.5, "the label says something, or little"
    assert found["log_p_x_standard_error"] > 0
    out = capsys.readouterr().out
    assert re.search(r"log p\(x\) +-\d+\.\d\d ± \d\.\d\d +bound, K = 20 importance samples", out)


def test_samples_of_a_class_need_only_the_checkpoint(script, trained_vlae):
    checkpoint = trained_vlae / CHECKPOINT
    images = []
    for _ in range(2):
        assert script("--sample", "--checkpoint", checkpoint, "--labels", 7, 1, "--num_samples", 3, only=True) == 0
        with np.load(f"{RUN}/samples_7_1.npz") as arrays:
            assert arrays["labels"].tolist() == [7, 7, 7, 1, 1, 1]
            images.append(arrays["images"])
        assert {*np.unique(images[-1])} <= {0.0, 1.0}, "draws, not means"
    np.testing.assert_array_equal(*images)


@pytest.fixture
def before_the_first_step(monkeypatch):
    """A context in which a run has to come to its first step, which is not made: it would be traced for seconds.
    The run has described itself by then."""

    class Reached(BaseException):
        pass

    def reach(self, batch):
        raise Reached

    @contextlib.contextmanager
    def context():
        with monkeypatch.context() as patch:
            patch.setattr(vae.VAE, "train_step", reach)
            with pytest.raises(Reached):
                yield

    return context


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--binarize", "none"], {"likelihood": "logistic", "binarize": "none"}),
        (["--likelihood", "logistic"], {"likelihood": "logistic", "binarize": "none"}),
        (["--window", 0, "--prior", "gaussian"], {"window": 0, "prior": "gaussian", "binarize": "dynamic"}),
        (["--network", "resnet"], {"network": "resnet", "binarize": "dynamic", "likelihood": "bernoulli"}),
    ],
)
def test_settings_follow_what_was_asked_for(script, capsys, before_the_first_step, flags, expected):
    with before_the_first_step():
        script(*SMALL, *flags)
    described = capsys.readouterr().out
    for name, value in expected.items():
        assert (f": {value} 4 8," if name == "network" else f", {name} {value}") in described


@pytest.mark.slow
def test_a_prior_without_classes_makes_the_model_unconditional(script, capsys):
    """The label could reach x through the prior only, so nothing is drawn by class and no log p(x|y) is given."""
    flags = [*SMALL, "--prior", "standard", "--num_epochs", 1, "--num_importance_samples", 2]
    assert script(*flags) == 0
    found = metrics(RUN)["test"]
    assert "log_p_x" in found
    assert "log_p_x_given_y" not in found
    checkpoint = "model_ckpts/vlae/mnist/vlae.weights.h5"
    assert script("--sample", "--checkpoint", checkpoint, "--num_samples", 3, only=True) == 0
    arrays = np.load(f"{RUN}/samples.npz")
    assert arrays["images"].shape == (3, 12, 12, 1)
    assert "labels" not in arrays
    assert script("--sample", "--checkpoint", checkpoint, "--labels", 3, only=True) == 1
    assert "--labels needs a prior that knows classes" in capsys.readouterr().err


UNCONDITIONAL = [*SMALL, "--network", "mlp", "--window", 0, "--latent_size", 2, "--unconditional"]


@pytest.mark.slow
def test_unconditional_ignores_the_labels_of_the_data_and_the_probes_do_not(script, start, capsys):
    start(*map(str, UNCONDITIONAL), "--num_epochs", "1")
    assert (metrics(RUN)["unconditional"], metrics(RUN)["prior"]) == (True, "mixture")
    header = read_header(CHECKPOINT)
    assert (header["model"]["num_classes"], len(header["dataset"]["class_names"])) == (0, 10)
    assert script("--evaluate", "--checkpoint", CHECKPOINT, "--num_importance_samples", 0, only=True) == 0
    assert "bound on log p(x), one posterior sample" in capsys.readouterr().out
    probes = metrics(RUN)["test"]["probes"]
    assert probes["linear_accuracy"] > 0
    assert "sample_agreement" not in probes
    assert not pathlib.Path(RUN, "style_transfer.png").exists()
    assert script("--sample", "--checkpoint", CHECKPOINT, "--num_samples", 3, only=True) == 0
    with np.load(f"{RUN}/samples.npz") as arrays:
        assert arrays["images"].shape == (3, 12, 12, 1)
        assert "labels" not in arrays
    assert script("--sample", "--checkpoint", CHECKPOINT, "--labels", 3, only=True) == 1
    assert "--labels needs classes, and this model knows none" in capsys.readouterr().err


@pytest.mark.slow
def test_an_unconditional_run_continues_as_such(script, start, before_the_first_step, capsys):
    start(*map(str, UNCONDITIONAL), "--num_epochs", "1")
    with before_the_first_step():
        script("--checkpoint", CHECKPOINT, "--num_epochs", 2, only=True)
    assert ", prior mixture, window 0, unconditional;" in capsys.readouterr().out


def test_a_conditional_run_stays_conditional(script, trained_vlae, capsys):
    assert script("--checkpoint", trained_vlae / CHECKPOINT, "--unconditional", "--num_epochs", 3, only=True) == 1
    assert "checkpoint has unconditional False, you asked for True" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--likelihood", "bernoulli", "--binarize", "none"], "needs binary pixels"),
        (["--dataset", "moons", "--network", "mlp"], "--window 3 is for images"),
        (["--labels", 12], "--labels 12: the model has no such class, but 0, 1"),
    ],
)
def test_pairs_that_make_no_sense_are_refused_in_one_line(script, capsys, flags, message):
    assert script(*SMALL, *flags) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_default_window_is_refused_with_a_density(script, idx_folder, capsys):
    flags = ["--model", "vlae", "--dataset", "mnist", "--data_dir", idx_folder, "--likelihood", "sigma"]
    assert script(*flags, "--binarize", "none", only=True) == 1
    error = capsys.readouterr().err
    assert "--likelihood sigma has no window" in error
    assert error.count("\n") == 1


def test_points_have_a_learned_prior_and_no_window(script, capsys, before_the_first_step):
    with before_the_first_step():
        script("--model", "vlae", "--dataset", "moons", only=True)
    assert re.search(r"likelihood sigma, .*, prior flow, window 0;", capsys.readouterr().out)


@pytest.mark.slow
def test_a_vlae_is_trained_on_points(script):
    assert script("--model", "vlae", "--dataset", "moons", "--num_epochs", 1, "--hidden_dims", 8, only=True) == 0
    figures = metrics("outputs/vlae/moons")
    assert (figures["prior"], figures["window"], figures["likelihood"]) == ("flow", 0, "sigma")
