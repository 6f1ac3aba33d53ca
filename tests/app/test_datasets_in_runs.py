"""The whole script on points, on the user's own images and on real data: train, continue, sample, evaluate."""

import functools

import numpy as np
import pytest
from conftest import SHARED_MNIST, assert_same_tensors, metrics
from matplotlib.image import imread
from PIL import Image

from app.run import class_numbers
from storage.checkpoints import read_header

SHARED_DATA = SHARED_MNIST.parent
PICTURES = {f"{name}.png" for name in ("samples", "reconstructions", "interpolation", "latent_space", "history")}


@pytest.fixture
def script(script):
    """Run the script's main() in this process, in an empty folder, with these flags only."""
    return functools.partial(script, only=True)


@pytest.fixture
def colour_folder(tmp_path):
    """Images of 9 x 7 pixels in colour: reddish ones and bluish ones."""
    rng = np.random.default_rng(0)
    for channel, name in ((0, "red"), (2, "blue")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            image = rng.integers(50, 100, (9, 7, 3), dtype=np.uint8)
            image[..., channel] += 100
            Image.fromarray(image).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


@pytest.mark.slow
def test_points_are_trained_on_drawn_and_sampled(script, tmp_path, capsys, real_pictures):
    assert script("--dataset", "moons", "--is_cvae", "--num_epochs", 1, "--hidden_dims", 8, "--seed", 1) == 0
    assert "20,000 for training and 2,000 for test, 2 classes (0, 1)" in capsys.readouterr().out
    outputs = tmp_path / "outputs/cvae/moons"
    assert {path.name for path in outputs.glob("*.png")} == PICTURES | {"manifold.png"}
    height, width = imread(outputs / "samples.png").shape[:2]
    assert width > 1.5 * height, "data and model side by side"
    figures = metrics(outputs)
    assert (figures["likelihood"], figures["network"], figures["latent_size"]) == ("sigma", "mlp", 2)
    checkpoint = tmp_path / "model_ckpts/cvae/moons/cvae.weights.h5"
    assert script("--sample", "--checkpoint", checkpoint, "--labels", 1, "--num_samples", 300) == 0
    arrays = np.load(outputs / "samples_1.npz")
    assert arrays["points"].shape == (300, 2)
    assert np.unique(arrays["labels"]).tolist() == [1]


@pytest.mark.slow
def test_a_vae_of_points_learns_their_scale(script, tmp_path):
    assert script("--dataset", "blobs", "--num_epochs", 6, "--hidden_dims", 32, 32) == 0
    assert metrics("outputs/vae/blobs")["test"]["elbo"] > -2.7, "a standard normal has -2.84"
    assert script("--sample", "--dataset", "blobs", "--num_samples", 2000) == 0
    points = np.load("outputs/vae/blobs/samples.npz")["points"]
    assert points.std(axis=0) == pytest.approx([1, 1], abs=0.2), "draws from p(x|z), not only its means"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "moons", "--likelihood", "bernoulli"], "--likelihood bernoulli is for pixels"),
        (["--dataset", "moons", "--likelihood", "logistic"], "--likelihood logistic is for pixels"),
        (["--dataset", "moons", "--network", "conv"], "--network conv is for images"),
        (["--dataset", "moons", "--network", "resnet"], "--network resnet is for images"),
        (["--dataset", "moons", "--binarize", "dynamic"], "--binarize dynamic is for images, and moons are points"),
        (["--dataset", "moons", "--image_size", "8"], "--image_size is for images, and moons are points"),
    ],
)
def test_senseless_pairs_are_refused_before_training(script, tmp_path, capsys, flags, message):
    assert script("--dataset", "mnist_sample", *flags) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "cvae"])
def test_a_folder_of_colour_images_of_odd_size(script, tmp_path, colour_folder, capsys, model):
    assert script("--dataset", colour_folder, "--model", model, "--num_epochs", 1) == 0
    out = capsys.readouterr().out
    assert "pictures: 9x7 colour images, 36 for training and 4 for test, 2 classes (blue, red)" in out
    figures = metrics(f"outputs/{model}/pictures")
    assert (figures["likelihood"], figures["network"]) == ("sigma", "conv")
    assert "bits_per_dim" not in figures["test"]
    assert script("--sample", "--dataset", colour_folder, "--model", model, "--num_samples", 3) == 0
    images = np.load(f"outputs/{model}/pictures/samples.npz")["images"]
    assert images.shape == (3 if model == "vae" else 6, 9, 7, 3)
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.slow
def test_a_vlae_of_colour_images_without_labels(script, colour_folder):
    """Its likelihood is that of levels, and nothing in it is conditional."""
    flags = ["--dataset", colour_folder / "red", "--network", "conv", "--hidden_dims", 4, "--num_epochs", 1]
    flags += ["--model", "vlae", "--prior", "gaussian", "--pixel_dims", 8, 8]
    assert script(*flags, "--num_importance_samples", 2) == 0
    figures = metrics("outputs/vlae/red")
    expected = {"likelihood": "logistic", "binarize": "none", "window": 7}
    assert {name: figures[name] for name in expected} == expected
    assert figures["test"]["bits_per_dim"] > 0
    assert "log_p_x" in figures["test"]
    assert "log_p_x_given_y" not in figures["test"]
    assert script("--sample", "--model", "vlae", "--dataset", colour_folder / "red", "--num_samples", 3) == 0
    arrays = np.load("outputs/vlae/red/samples.npz")
    assert arrays["images"].shape == (3, 9, 7, 3)
    assert "labels" not in arrays
    assert np.allclose(arrays["images"] * 255, np.rint(arrays["images"] * 255), atol=1e-3), "levels"


@pytest.mark.slow
def test_a_vlae_of_examples_with_several_labels_has_no_sum_over_classes(script, tmp_path, capsys):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 6, 5), dtype=np.uint8), rng.integers(0, 2, (40, 3), dtype=np.uint8)
    np.savez(tmp_path / "several.npz", images=images, labels=labels)
    flags = ["--dataset", tmp_path / "several.npz", "--network", "mlp", "--hidden_dims", 4, "--latent_size", 2]
    flags += ["--model", "vlae", "--prior", "gaussian", "--num_epochs", 1, "--num_importance_samples", 2]
    assert script(*flags) == 0
    assert "no log p(x)" in capsys.readouterr().out
    found = metrics("outputs/vlae/several")["test"]
    assert "log_p_x_given_y" in found
    assert "log_p_x" not in found
    assert (tmp_path / "outputs/vlae/several/manifold.png").exists()


@pytest.mark.slow
def test_own_images_resume_bit_for_bit(script, colour_folder):
    """1 + 1 epochs against 2, with the learned scale of `sigma` among the weights."""
    flags = ["--dataset", colour_folder, "--hidden_dims", 4, "--latent_size", 2, "--is_cvae", "--prior", "standard"]
    assert script(*flags, "--run_name", "split", "--num_epochs", 1) == 0
    assert script(*flags, "--run_name", "split", "--num_epochs", 2, "--load_weights") == 0
    assert script(*flags, "--run_name", "whole", "--num_epochs", 2) == 0
    assert_same_tensors(*(f"model_ckpts/cvae/{name}/cvae.weights.h5" for name in ("split", "whole")))


@pytest.mark.slow
def test_a_moved_folder_is_taken_and_a_changed_one_is_not(script, tmp_path, colour_folder, capsys):
    assert script("--dataset", colour_folder, "--num_epochs", 1, "--hidden_dims", 4, "--prior", "standard") == 0
    checkpoint = tmp_path / "model_ckpts/vae/pictures/vae.weights.h5"
    moved = colour_folder.rename(tmp_path / "elsewhere")
    assert script("--evaluate", "--checkpoint", checkpoint) == 1
    assert f"there is no file or folder {colour_folder}" in capsys.readouterr().err
    assert script("--evaluate", "--checkpoint", checkpoint, "--dataset", moved) == 0
    (moved / "red" / "0.png").unlink()
    assert script("--evaluate", "--checkpoint", checkpoint, "--dataset", moved) == 1
    assert "other examples or labels" in capsys.readouterr().err, "what was trained on must not be tested on"


def test_classes_to_draw_have_names_or_numbers(script, tmp_path, colour_folder, capsys):
    flags = ["--dataset", colour_folder, "--is_cvae", "--prior", "standard", "--hidden_dims", 4, "--num_samples", 2]
    assert script(*flags, "--num_epochs", 1, "--labels", "green") == 1
    assert "--labels green: the model has no such class, but blue, red (or 0 to 1)" in capsys.readouterr().err
    assert script(*flags, "--num_epochs", 1, "--labels", "blue") == 0
    checkpoint = "model_ckpts/cvae/pictures/cvae.weights.h5"
    for labels in (["red", "blue"], [1, 0]):
        assert script("--sample", "--checkpoint", checkpoint, "--num_samples", 2, "--labels", *labels, only=True) == 0
        path = tmp_path / "outputs/cvae/pictures/samples_1_0.npz"
        with np.load(path) as arrays:
            assert arrays["labels"].tolist() == [1, 1, 0, 0]
        path.unlink()
    assert script("--sample", "--checkpoint", checkpoint, "--labels", "rde", only=True) == 1
    assert "no such class, but blue, red (or 0 to 1): did you mean red?" in capsys.readouterr().err


def test_the_name_of_a_class_counts_before_a_number():
    assert class_numbers("labels", ["1", "0", "2", "a"], ["1", "0", "a"], "the model") == (0, 1, 2, 2)


@pytest.mark.slow
def test_image_size_brings_images_to_one_size(script, colour_folder, idx_folder, capsys):
    Image.new("RGB", (30, 20)).save(colour_folder / "red" / "large.png")
    flags = ["--dataset", colour_folder, "--num_epochs", 1, "--hidden_dims", 4, "--prior", "standard"]
    assert script(*flags) == 1
    assert "choose one size for all with --image_size" in capsys.readouterr().err
    assert script(*flags, "--image_size", 8, 6) == 0
    assert "8x6 colour images" in capsys.readouterr().out
    assert script(*flags, "--image_size", 8, "--load_weights") == 1
    assert "checkpoint has image_size 8 6, you asked for 8 8" in capsys.readouterr().err
    flags = ["--dataset", "mnist", "--data_dir", idx_folder, "--num_epochs", 1, "--hidden_dims", 4]
    assert script(*flags, "--image_size", 7) == 0
    assert "7x7 grey images" in capsys.readouterr().out


def test_an_unreadable_image_is_named_and_the_run_goes_on(script, colour_folder, capsys):
    (colour_folder / "red" / "3.png").write_bytes(b"\x89PNG but not really")
    assert script("--dataset", colour_folder, "--num_epochs", 1, "--hidden_dims", 4, "--prior", "standard") == 0
    out = capsys.readouterr().out
    assert "NOTE: skipped 1 of 40 images, which cannot be read" in out
    assert "3.png" in out


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_two_images_and_class_names_that_mean_something_to_matplotlib(script, tmp_path, real_pictures):
    for name in ("_$\\frac$", "price $5"):
        (tmp_path / "odd" / name).mkdir(parents=True)
        Image.new("L", (4, 4), 200).save(tmp_path / "odd" / name / "a.png")
    flags = ["--is_cvae", "--prior", "standard", "--num_epochs", 1, "--hidden_dims", 4]
    assert script("--dataset", tmp_path / "odd", *flags) == 0
    assert (tmp_path / "outputs/cvae/odd/samples.png").exists()


@pytest.mark.slow
def test_bits_per_dim_are_given_where_pixels_have_probabilities(script, start):
    for name, flags in (
        ("logistic", ["--likelihood", "logistic"]),
        ("binary", ["--binarize", "dynamic"]),
        ("sigma", ["--likelihood", "sigma"]),
        ("mnist", []),
    ):
        start(*flags, *(["--run_name", name] if flags else []))
        test = metrics(f"outputs/vae/{name}")["test"]
        assert ("bits_per_dim" in test) == (name in ("logistic", "binary"))
        if "bits_per_dim" in test:
            assert test["bits_per_dim"] == pytest.approx(-test["elbo"] / (144 * np.log(2)), rel=1e-5)
            assert 0 < test["bits_per_dim"] < 9


def test_offline_without_a_dataset_falls_back(script, capsys, empty_tfds):
    assert script("--offline", "--num_epochs", 1, "--hidden_dims", 8) == 0
    out = capsys.readouterr().out
    assert "NOTE: MNIST is out of reach, so this run uses mnist_sample" in out
    assert "--offline forbids downloading it" in out
    assert script("--offline", "--dataset", "kmnist") == 1
    assert "--offline forbids" in capsys.readouterr().err


REAL = {
    "frey_faces": (["--dataset", SHARED_DATA / "frey_faces/frey_faces.npz"], "vae", "28x20 grey images, 1,768 for"),
    "test": (["--dataset", SHARED_DATA / "cifar10-images/test"], "cvae", "32x32 colour images, 450 for"),
    "pneumoniamnist": (
        ["--dataset", "pneumoniamnist", "--data_dir", SHARED_DATA / "medmnist"],
        "cvae",
        "28x28 grey images, 3,882 for training and 624 for test, 2 classes (normal, pneumonia)",
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_DATA / "frey_faces").is_dir(), reason="needs the real data in ../shared/data")
@pytest.mark.parametrize("name", REAL)
def test_real_data_are_trained_on_continued_sampled_and_evaluated(script, tmp_path, capsys, name, real_pictures):
    flags, model, described = REAL[name]
    assert script(*flags, "--model", model, "--num_epochs", 1) == 0
    assert described in capsys.readouterr().out
    assert script(*flags, "--model", model, "--num_epochs", 2, "--load_weights") == 0
    outputs = tmp_path / f"outputs/{model}/{name}"
    more = {"traversals.png", "style_transfer.png"} if model == "cvae" else {"traversals.png"}
    assert {path.name for path in outputs.glob("*.png")} == PICTURES | more
    figures = metrics(outputs)
    assert figures["epochs"] == 2
    checkpoint = tmp_path / f"model_ckpts/{model}/{name}/{model}.weights.h5"
    assert script("--evaluate", "--checkpoint", checkpoint, "--num_importance_samples", 0) == 0
    again = metrics(outputs)["test"]
    assert {name: again[name] for name in figures["test"]} == figures["test"]
    assert script("--sample", "--checkpoint", checkpoint, "--num_samples", 4) == 0
    rows = len(read_header(checkpoint)["dataset"]["class_names"]) or 1
    assert len(np.load(outputs / "samples.npz")["images"]) == 4 * rows


@pytest.mark.skipif(not (SHARED_DATA / "frey_faces").is_dir(), reason="needs the Frey faces in ../shared/data")
def test_a_conditional_model_of_data_without_labels_is_refused_in_one_line(script, tmp_path, capsys):
    assert script("--is_cvae", "--dataset", SHARED_DATA / "frey_faces/frey_faces.npz") == 1
    errors = capsys.readouterr().err
    assert errors == "assignment.py: error: --model cvae needs labels, and frey_faces has none: use --model vae\n"
    assert list(tmp_path.iterdir()) == []
