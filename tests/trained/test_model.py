"""A trained model in use: what `vae.load` returns."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY, metrics

import vae
from data import load_dataset
from trained.model import TrainedModel

SHAPE, CLASSES = (6, 6, 1), 3
KINDS = {
    "vae": {},
    "cvae": {"num_classes": CLASSES, "prior": "flow"},
    "vlae": {"num_classes": CLASSES, "prior": "flow", "window": 5, "pixel_dims": (8, 8, 8), "network": "conv"},
}


def build(model: str = "cvae", **changes) -> TrainedModel:
    class_probs = changes.pop("class_probs", [0.2, 0.3, 0.5] if model != "vae" else None)
    hidden_dims = (4, 4) if model == "vlae" else (8,)
    arguments = {"data_shape": SHAPE, "latent_size": 2, "hidden_dims": hidden_dims} | KINDS[model] | changes
    built = vae.build_model(model, **arguments)
    rng = np.random.default_rng(0)
    for weight in built.trainable_variables:  # an untrained decoder gives the same for every code
        weight.assign(weight.numpy() + 0.1 * rng.normal(size=weight.shape))
    names = ["ape", "bee", "cat"] if model != "vae" else ()
    return TrainedModel(built, names, binarize="threshold", class_probs=class_probs)


@pytest.fixture(scope="module", params=KINDS)
def model(request) -> TrainedModel:
    return build(request.param)


@pytest.fixture(scope="module")
def cvae() -> TrainedModel:
    return build()


def images(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE), dtype=np.uint8)


def labels_for(model: TrainedModel, num: int):
    return np.arange(num) % CLASSES if model.is_conditional else None


def test_uint8_floats_and_tensors_with_and_without_the_channel_axis_are_the_same_images(model):
    x, labels = images(7), labels_for(model, 7)
    expected = model.encode(x, labels)
    floats = (x / 255.0).astype(np.float32)
    for other in (floats, floats.astype(np.float64), x[..., 0], floats[..., 0], tf.constant(x), tf.constant(floats)):
        for found, wanted in zip(model.encode(other, labels), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert np.ptp(expected[0], axis=0).min() > 0, "the codes differ"


def test_images_are_binarized_as_in_training(cvae):
    x = images(5)
    np.testing.assert_array_equal(cvae.encode(x, 0)[0], cvae.encode(x > 127, 0)[0])
    grey = TrainedModel(cvae.model, cvae.class_names)
    assert np.abs(grey.encode(x, 0)[0] - cvae.encode(x, 0)[0]).max() > 1e-3


def test_labels_as_numbers_names_rows_or_one_for_all_are_the_same(cvae):
    x, numbers = images(6), np.arange(6) % CLASSES
    expected = cvae.encode(x, numbers)[0]
    names = [cvae.class_names[number] for number in numbers]
    for labels in (
        list(numbers),
        names,
        np.array(names),
        np.array(names, object),
        np.eye(CLASSES)[numbers],
        tf.constant(numbers),
    ):
        np.testing.assert_array_equal(cvae.encode(x, labels)[0], expected)
    for one in (1, "bee", np.int64(1)):
        np.testing.assert_array_equal(cvae.encode(x, one)[0], cvae.encode(x, [1] * 6)[0])
    assert np.abs(cvae.encode(x, 0)[0] - cvae.encode(x, 1)[0]).max() > 1e-3, "the label matters"


def test_any_number_of_examples_gives_the_same_as_each_alone(model):
    """Also more than a block of 500."""
    x = images(503)
    labels = labels_for(model, 503)
    mean, logvar = model.encode(x, labels)
    assert mean.shape == logvar.shape == (503, 2)
    rows = [0, 499, 500, 502]
    alone = [model.encode(x[row : row + 1], None if labels is None else labels[row : row + 1])[0][0] for row in rows]
    np.testing.assert_allclose(mean[rows], alone, rtol=1e-4, atol=1e-5)
    decoded = model.decode(mean, labels)
    assert decoded.shape == (503, *SHAPE)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, model.reconstruct(x, labels))


def test_samples_are_those_of_the_seed(model):
    labels = labels_for(model, 9)
    samples = model.sample(9, labels, seed=3)
    assert samples.shape == (9, *SHAPE)
    np.testing.assert_array_equal(samples, model.sample(9, labels, seed=3))
    assert np.abs(samples - model.sample(9, labels, seed=4)).max() > 1e-3


@pytest.mark.slow
def test_the_marginal_sums_the_conditionals_with_the_frequencies_of_the_classes(cvae):
    x = images(4)
    of_class = np.stack([cvae.log_prob(x, number, 3000) for number in range(CLASSES)], axis=1)
    expected = np.logaddexp.reduce(of_class + np.log(cvae.class_probs), axis=1)
    np.testing.assert_allclose(cvae.log_prob(x, num_importance_samples=3000), expected, atol=0.05)
    without = TrainedModel(cvae.model, cvae.class_names)
    with pytest.raises(ValueError, match="log p\\(x\\) needs p\\(y\\)"):
        without.log_prob(x)


def test_more_importance_samples_tighten_the_bound(model):
    x = images(50)
    few, many = (model.log_prob(x, labels_for(model, 50), num) for num in (1, 200))
    assert many.mean() > few.mean()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 5, 6), np.uint8), r"x has the shape \(2, 5, 6\), expected \(n, 6, 6, 1\) or \(n, 6, 6\)"),
        (np.zeros((6, 6), np.uint8), r"x has the shape \(6, 6\)"),
        (np.zeros((0, 6, 6), np.uint8), "x holds no example"),
        (np.zeros((2, 6, 6), np.int64), "type int64, expected uint8 from 0 to 255 or floats from 0 to 1"),
        (np.full((2, 6, 6), 255.0), "values from 255 to 255, expected uint8, or floats from 0 to 1"),
        (np.full((2, 6, 6), -0.1), "expected uint8, or floats from 0 to 1"),
        (np.full((2, 6, 6), np.nan), "x has values that are not finite"),
        ([[1], [2, 3]], "x is no array"),
        ("digits.png", r"x has the shape \(\)"),
    ],
)
def test_wrong_images_are_told_in_one_sentence(cvae, x, message):
    for call in (cvae.encode, cvae.reconstruct, cvae.log_prob):
        with pytest.raises(ValueError, match=message) as told:
            call(x, 0)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "this model needs labels, one for each example; it knows 3 classes: ape, bee, cat"),
        (3, "there is no class 3: there are classes 0 to 2"),
        (-1, "there is no class -1"),
        ("dog", "there is no class 'dog'; the model knows 3 classes: ape, bee, cat"),
        ([0, 1], "there are 2 labels for 3 examples"),
        ([0.0, 1.0, 2.0], "labels are of type float64"),
        (np.ones((3, 2)), r"labels have the shape \(3, 2\)"),
        (np.full((3, 3), 0.5), "rows of labels must hold zeros and ones"),
        (np.ones((3, 3)), "each row of labels must have one 1"),
        ([True, False, True], "labels are of type bool"),
    ],
)
def test_wrong_labels_are_told_in_one_sentence(cvae, labels, message):
    for call in (lambda: cvae.encode(images(3), labels), lambda: cvae.sample(3, labels)):
        with pytest.raises(ValueError, match=message) as told:
            call()
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.decode(np.zeros((2, 3)), 0), r"z has the shape \(2, 3\), expected \(n, 2\)"),
        (lambda model: model.decode([["a", "b"]], 0), "z is of type"),
        (lambda model: model.sample(0, 0), "num must be a whole number from 1 to 1000000, not 0"),
        (lambda model: model.sample(10**7, 0), "num must be a whole number from 1 to 1000000, not 10000000"),
        (lambda model: model.sample(1, 0, 2**63), "seed must be a whole number from 0"),
        (lambda model: model.sample(2.5, 0), "num is of type float, expected a whole number"),
        (lambda model: model.sample(2, 0, seed=-1), "seed must be a whole number from 0"),
        (lambda model: model.decode(np.zeros((1, 2)), 0, seed="a"), "seed is of type str, expected a whole number"),
        (lambda model: model.log_prob(images(1), 0, 0), "num_importance_samples must be a whole number from 1"),
    ],
)
def test_wrong_numbers_are_told_in_one_sentence(cvae, call, message):
    with pytest.raises(ValueError, match=message):
        call(cvae)


def test_labels_for_a_model_that_takes_none_are_refused():
    with pytest.raises(ValueError, match="this vae is not conditional: it takes no labels"):
        build("vae").sample(2, 0)


@pytest.mark.slow
def test_completions_keep_what_is_known(model):
    x = np.where(images(3) > 127, 255, 0).astype(np.uint8)
    known = np.zeros((6, 6), bool)
    known[:3] = True
    for labels in (labels_for(model, 3), None):
        filled = model.fill_in(x, known, labels, num=2, seed=1)
        assert filled.shape == (3, 2, *SHAPE)
        np.testing.assert_array_equal(filled[:, :, :3], np.repeat(x[:, None, :3] / 255.0, 2, axis=1))
        assert np.abs(filled[:, 0] - filled[:, 1]).max() > 1e-3, "the draws differ"
        np.testing.assert_array_equal(filled, model.fill_in(x, np.array([known] * 3), labels, num=2, seed=1))


@pytest.mark.parametrize("known", [np.ones((6, 6)), np.ones((2, 6, 6), bool), np.ones((6, 6, 1), bool), None])
def test_places_that_are_no_booleans_of_the_shape_are_refused(cvae, known):
    with pytest.raises(ValueError, match=r"expected booleans of shape \(3, 6, 6\) or \(6, 6\)"):
        cvae.fill_in(images(3), known, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a", "b"]}, "there are 2 class names for 3 classes"),
        ({"class_names": "abc"}, "class_names must be a list of texts, not 'abc'"),
        ({"class_names": [1, 2, 3]}, "class_names must be a list of texts"),
        ({"binarize": "sometimes"}, "binarize must be none, dynamic or threshold, not 'sometimes'"),
        ({"class_probs": [0.5, 0.5]}, "class_probs must be 3 probabilities with the sum 1"),
        ({"class_probs": [0.5, 0.5, 0.5]}, "class_probs must be 3 probabilities with the sum 1"),
        ({"class_probs": [1.5, -0.5, 0.0]}, "class_probs must be 3 probabilities with the sum 1"),
    ],
)
def test_a_model_refuses_what_does_not_fit_it(cvae, arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainedModel(cvae.model, **arguments)


def test_a_conditional_model_needs_to_know_how_many_classes_there_are():
    with pytest.raises(ValueError, match="a cvae needs num_classes"):
        vae.build_model("cvae", data_shape=SHAPE)


def test_images_stay_in_range_so_that_what_is_drawn_can_be_encoded():
    model = build("vae", likelihood="sigma")
    offset = model.model.decoder.offset
    offset.assign(np.full(offset.shape, 2.0))
    drawn = model.sample(5)
    assert drawn.max() == 1.0
    assert model.encode(drawn)[0].shape == (5, 2)


# Checkpoints


@pytest.mark.parametrize(
    "flags", [[], pytest.param(["--model", "cvae", "--binarize", "dynamic"], marks=pytest.mark.slow)]
)
def test_log_prob_is_what_evaluate_reports(start, script, idx_folder, flags):
    start(*flags)
    assert script(*flags, "--evaluate", "--num_importance_samples", "5", "--seed", "2") == 0
    name = "cvae" if flags else "vae"
    figures = metrics(f"outputs/{name}/mnist")["test"]
    model = vae.load(f"model_ckpts/{name}/mnist/{name}.weights.h5")
    test = load_dataset("mnist", str(idx_folder)).test
    assert model.log_prob(test.x, None, 5, seed=2).mean() == pytest.approx(figures["log_p_x"], rel=1e-12)
    if flags:
        of_class = model.log_prob(test.x, test.labels, 5, seed=2)
        assert of_class.mean() == pytest.approx(figures["log_p_x_given_y"], rel=1e-12)


@pytest.mark.slow
def test_a_checkpoint_without_class_frequencies_still_loads(trained, tmp_path, monkeypatch):
    """As those of earlier versions."""
    path = trained("--model", "cvae") / "model_ckpts/cvae/mnist/cvae.weights.h5"
    header = vae.read_header(path)
    assert header["dataset"].pop("class_probs") == pytest.approx([0.1] * 10)
    monkeypatch.setattr(vae, "read_header", lambda path: header)
    model = vae.load(path)
    assert model.class_names == tuple("0123456789")
    assert model.class_probs is None


PROGRAM = """
import sys
import numpy as np
import vae
model = vae.load(sys.argv[1])
np.savez(sys.argv[2], sample=model.sample(12, 3 if model.is_conditional else None), code=model.encode(
    np.arange(288, dtype=np.uint8).reshape(2, 12, 12), 3 if model.is_conditional else None)[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "cvae", "vlae"])
def test_outputs_are_bit_identical_across_processes(trained, tmp_path, model):
    flags = ["--hidden_dims", "4", "4"] if model == "vlae" else []
    path = trained("--model", model, *flags) / f"model_ckpts/{model}/mnist/{model}.weights.h5"
    for name in ("a.npz", "b.npz"):
        ran = subprocess.run([sys.executable, "-c", PROGRAM, path, tmp_path / name], cwd=REPOSITORY, check=True,
                             capture_output=True)  # fmt: skip
        assert not ran.stdout
    a, b = (np.load(tmp_path / name) for name in ("a.npz", "b.npz"))
    assert all(np.array_equal(a[name], b[name]) for name in ("sample", "code"))
    assert np.ptp(a["sample"]) > 0
