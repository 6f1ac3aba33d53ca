"""The whole script on tiny data: what it writes, how it resumes, what it refuses."""

import csv
import ctypes
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY, assert_same_tensors, run_process, tensors
from matplotlib.image import imread

from storage.checkpoints import read_header

CHECKPOINT = "model_ckpts/vae/mnist/vae.weights.h5"
PICTURES = ("samples", "reconstructions", "interpolation", "latent_space", "traversals", "history")


def metrics(folder="outputs/vae/mnist"):
    with open(f"{folder}/metrics.json") as file:
        return json.load(file)


def history(folder="outputs/vae/mnist"):
    with open(f"{folder}/history.csv") as file:
        return list(csv.DictReader(file))


def test_training_leaves_checkpoint_figures_and_pictures(script, tmp_path):
    assert script("--sample_and_save_frequency", "1", "--latent_size", "2") == 0
    outputs = tmp_path / "outputs/vae/mnist"
    written = {path.name for path in outputs.iterdir()}
    epochs = {f"epoch_00{n}_{kind}.png" for n in (1, 2) for kind in ("samples", "reconstructions")}
    assert written == {f"{name}.png" for name in (*PICTURES, "manifold")} | epochs | {"history.csv", "metrics.json"}
    for path in outputs.glob("*.png"):
        height, width = imread(path).shape[:2]
        assert 30 < height < 3000
        assert 150 < width < 3000
    checkpoints = {path.name for path in (tmp_path / "model_ckpts/vae/mnist").iterdir()}
    assert checkpoints == {"vae.weights.h5", "epoch_001.weights.h5", "epoch_002.weights.h5"}


def test_metrics_and_history_hold_the_figures(script):
    assert script() == 0
    figures = metrics()
    expected = {"model": "vae", "dataset": "mnist", "run_name": "mnist", "epochs": 2, "seed": 0, "latent_size": 3}
    expected |= {"likelihood": "bernoulli", "binarize": "none", "fallback_from": None, "data_shape": [12, 12, 1]}
    expected |= {"network": "mlp", "hidden_dims": [16], "activation": "gelu", "batch_size": 32, "learning_rate": 1e-3}
    assert expected.items() <= figures.items()
    stored = tensors(CHECKPOINT)
    assert figures["parameters"] == sum(stored[name].size for name in stored if not name.startswith("optimizer"))
    assert "adam" in figures["optimizer"]
    assert figures["train_seconds"] > 0
    assert figures["images_per_second"] > 0
    assert {"python", "tensorflow", "keras"} <= figures["versions"].keys()
    test = figures["test"]
    assert test["num_examples"] == 60
    assert test["elbo"] == pytest.approx(-test["rate"] - test["distortion"], rel=1e-5)
    rows = history()
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == ["epoch"] + [
        f"{s}_{f}" for s in ("train", "test") for f in ("loss", "elbo", "rate", "distortion")
    ]
    assert float(rows[-1]["test_elbo"]) == pytest.approx(test["elbo"], rel=1e-6)


def test_learning_shows_in_the_test_figure(script):
    assert script("--num_epochs", "30", "--lr", "1e-2", "--hidden_dims", "32") == 0
    rows = history()
    assert float(rows[-1]["test_elbo"]) > float(rows[0]["test_elbo"]) + 5


@pytest.mark.parametrize("model", ["vae", pytest.param("cvae", marks=pytest.mark.slow)])
def test_resumed_training_is_bit_identical_across_processes(tmp_path, idx_folder, model):
    """2 + 2 epochs, in two processes, against 4: the same weights, optimizer, history."""
    flags = [
        "--data_dir",
        str(idx_folder),
        "--dataset",
        "mnist",
        "--model",
        model,
        "--batch_size",
        "32",
        "--hidden_dims",
        "16",
    ]
    flags += ["--binarize", "dynamic", "--warmup_epochs", "3", "--seed", "5"]
    for name, runs in (
        ("split", (["--num_epochs", "2"], ["--num_epochs", "4", "--load_weights"])),
        ("whole", (["--num_epochs", "4"],)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for extra in runs:
            done = run_process(*flags, *extra, cwd=folder)
            assert done.returncode == 0, done.stderr
    checkpoint = f"model_ckpts/{model}/mnist/{model}.weights.h5"
    assert_same_tensors(tmp_path / "split" / checkpoint, tmp_path / "whole" / checkpoint)
    histories = [(tmp_path / name / f"outputs/{model}/mnist/history.csv").read_bytes() for name in ("split", "whole")]
    assert histories[0] == histories[1]
    assert histories[0].count(b"\n") == 5


def test_nothing_left_to_train_is_said(script, capsys):
    assert script() == 0
    before = tensors(CHECKPOINT)
    capsys.readouterr()
    assert script("--load_weights") == 0
    assert "nothing left to train" in capsys.readouterr().out
    assert all(np.array_equal(before[name], value) for name, value in tensors(CHECKPOINT).items())


def test_resuming_takes_the_stored_flags_and_a_given_learning_rate(script, capsys):
    assert script("--lr", "3e-3") == 0
    assert script("--load_weights", "--num_epochs", "3", only=True) == 0
    assert read_header(CHECKPOINT)["config"]["learning_rate"] == 3e-3
    assert tensors(CHECKPOINT)["optimizer/vars/1"] == pytest.approx(3e-3)
    assert script("--load_weights", "--num_epochs", "4", "--lr", "1e-4", only=True) == 0
    assert "learning_rate: 0.0001 from now on, 0.003 before" in capsys.readouterr().out
    header = read_header(CHECKPOINT)
    assert header["epoch"] == 4
    assert header["config"]["learning_rate"] == 1e-4
    assert tensors(CHECKPOINT)["optimizer/vars/1"] == pytest.approx(1e-4)
    assert header["config"]["batch_size"] == 32
    assert len(history()) == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--latent_size", "20"], "checkpoint has latent_size 3, you asked for 20"),
        (["--dataset", "mnist_sample"], "checkpoint has dataset mnist, you asked for mnist_sample"),
        (["--model", "cvae"], "checkpoint has model vae, you asked for cvae"),
        (["--hidden_dims", "8", "8"], "checkpoint has hidden_dims 16, you asked for 8 8"),
        (["--likelihood", "gaussian"], "checkpoint has likelihood bernoulli, you asked for gaussian"),
        (["--binarize", "dynamic"], "checkpoint has binarize none, you asked for dynamic"),
        (["--validation_size", "10"], "checkpoint has validation_size 0, you asked for 10"),
    ],
)
def test_another_model_or_dataset_than_the_checkpoints_is_refused(script, capsys, asked, message, trained_run):
    before = (trained_run / CHECKPOINT).read_bytes()
    assert script("--checkpoint", str(trained_run / CHECKPOINT), "--num_epochs", "9", *asked, only=True) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert (trained_run / CHECKPOINT).read_bytes() == before


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory, idx_folder):
    """A folder in which a VAE and a CVAE were trained."""
    import os

    import assignment

    folder, here = tmp_path_factory.mktemp("trained"), os.getcwd()
    os.chdir(folder)
    flags = ["--data_dir", str(idx_folder), "--dataset", "mnist", "--num_epochs", "1", "--batch_size", "32"]
    flags += ["--hidden_dims", "16", "--latent_size", "3"]
    try:
        for model in ("vae", "cvae"):
            assert assignment.main([*flags, "--model", model]) == 0
    finally:
        os.chdir(here)
    return folder


def test_sampling_needs_nothing_but_the_checkpoint(script, trained_run, tmp_path):
    moved = tmp_path / "elsewhere.weights.h5"
    shutil.copy(trained_run / CHECKPOINT, moved)
    assert script("--sample", "--checkpoint", str(moved), "--num_samples", "7", only=True) == 0
    with np.load("outputs/vae/mnist/samples.npz", allow_pickle=False) as arrays:
        assert arrays.files == ["images"]
        images = arrays["images"]
    assert images.shape == (7, 12, 12, 1)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert not (tmp_path / "model_ckpts").exists()
    assert script("--sample", "--checkpoint", str(moved), "--num_samples", "7", "--seed", "1", only=True) == 0
    assert not np.array_equal(np.load("outputs/vae/mnist/samples.npz")["images"], images)


def test_a_picture_shows_the_first_of_very_many_samples_and_the_arrays_hold_all(script, trained_run, monkeypatch):
    from pictures import samples

    sample = ("--sample", "--checkpoint", str(trained_run / CHECKPOINT), "--num_samples")
    assert script(*sample, "20", only=True) == 0
    height, width = imread("outputs/vae/mnist/samples.png").shape[:2]
    monkeypatch.setattr(samples, "MOST_PIXELS", 20 * 12 * 12)
    assert script(*sample, "3000", only=True) == 0
    found = imread("outputs/vae/mnist/samples.png").shape
    assert found[0] == height
    assert abs(found[1] - width) < 400, "but for a longer title"
    assert np.load("outputs/vae/mnist/samples.npz")["images"].shape == (3000, 12, 12, 1)


def test_conditional_samples_are_of_the_classes_asked_for(script, trained_run):
    checkpoint = str(trained_run / "model_ckpts/cvae/mnist/cvae.weights.h5")
    assert script("--sample", "--checkpoint", checkpoint, "--num_samples", "2", only=True) == 0
    assert np.load("outputs/cvae/mnist/samples.npz")["labels"].tolist() == np.repeat(np.arange(10), 2).tolist()
    assert script("--sample", "--checkpoint", checkpoint, "--labels", "7", "3", "--num_samples", "2", only=True) == 0
    arrays = np.load("outputs/cvae/mnist/samples.npz")
    assert arrays["labels"].tolist() == [7, 7, 3, 3]
    assert arrays["images"].shape == (4, 12, 12, 1)


def test_evaluation_needs_nothing_but_the_checkpoint_and_repeats_the_figures(script, trained_run):
    assert script("--evaluate", "--checkpoint", str(trained_run / CHECKPOINT), only=True) == 0
    again, first = metrics(), metrics(trained_run / "outputs/vae/mnist")
    assert {name: again["test"][name] for name in first["test"]} == first["test"]
    assert again["train_seconds"] == first["train_seconds"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sample"], "model_ckpts/vae/mnist/vae.weights.h5: train first (python assignment.py), or name a file with"),
        (
            ["--evaluate", "--is_cvae", "--run_name", "a b"],
            "there is no checkpoint at model_ckpts/cvae/a b/cvae.weights.h5: train first "
            "(python assignment.py --model cvae --run_name 'a b'), or name a file with --checkpoint",
        ),
        (["--load_weights"], "there is no checkpoint at model_ckpts/vae/mnist/vae.weights.h5: train first"),
        (
            ["--sample", "--checkpoint", "model_ckpts"],
            "no checkpoint at model_ckpts: --checkpoint takes a file, such as",
        ),
        (["--batch_size", "201"], "--batch_size 201 is more than the 200 training examples"),
        (["--validation_size", "200"], "leaves none of the 200 training examples"),
        (["--is_cvae", "--labels", "12"], "--labels 12: there are classes 0 to 9 only"),
        (["--network", "conv", "--hidden_dims", "4", "4", "4", "4"], "halve 12x12 images to nothing"),
        (["--device", "gpu:7"], "--device gpu:7: TensorFlow sees"),
    ],
)
def test_foreseeable_failures_end_in_one_line(script, capsys, tmp_path, flags, message):
    assert script(*flags) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_flags_may_be_repeated_where_they_have_no_effect_and_are_noted(script, capsys):
    assert script("--is_cvae", "--beta", "2", "--num_epochs", "1") == 0
    assert script("--is_cvae", "--load_weights", "--sample", "--num_epochs", "9") == 0
    assert "NOTE: without effect here: --num_epochs, --batch_size\n" in capsys.readouterr().out
    assert script("--is_cvae", "--evaluate", "--beta", "8", "--labels", "3", "--num_importance_samples", "0") == 0
    note = "NOTE: without effect here: --num_epochs, --batch_size, --beta, --num_samples, --labels\n"
    assert note in capsys.readouterr().out
    assert metrics("outputs/cvae/mnist")["beta"] == 2, "what it was trained with"


def test_asking_for_what_the_checkpoint_has_by_default_is_no_difference(script, idx_folder):
    assert script("--data_dir", idx_folder, "--dataset", "mnist", "--num_epochs", "1", only=True) == 0
    assert script("--sample", "--hidden_dims", "400", "400", "--network", "mlp", only=True) == 0


def test_a_fresh_run_sets_the_earlier_one_aside(script, tmp_path, capsys):
    for seed in ("1", "2", "3"):
        assert script("--num_epochs", "1", "--seed", seed) == 0
    assert "moved to model_ckpts/vae/mnist.previous" in capsys.readouterr().out
    for root in ("model_ckpts", "outputs"):
        assert {path.name for path in (tmp_path / root / "vae").glob("[!.]*")} == {"mnist", "mnist.previous"}
    assert metrics()["seed"] == 3
    assert metrics("outputs/vae/mnist.previous")["seed"] == 2


def test_runs_that_fail_at_once_do_not_displace_a_good_one(script, tmp_path):
    assert script("--num_epochs", "1") == 0
    before = tensors(CHECKPOINT)
    for _ in range(2):
        assert script("--num_epochs", "1", "--lr", "1e30") == 1
    kept = tensors("model_ckpts/vae/mnist.previous/vae.weights.h5")
    assert all(np.array_equal(before[name], value) for name, value in kept.items())


def test_a_checkpoint_that_setting_aside_would_delete_is_kept(script, tmp_path, capsys):
    for _ in range(2):
        assert script("--num_epochs", "1") == 0
    source = tmp_path / "model_ckpts/vae/mnist.previous/vae.weights.h5"
    assert script("--checkpoint", str(source), "--num_epochs", "2", only=True) == 1
    assert "--run_name" in capsys.readouterr().err
    assert source.exists()
    assert script("--checkpoint", str(source), "--num_epochs", "2", "--run_name", "again", only=True) == 0
    assert metrics("outputs/vae/again")["epochs"] == 2
    assert source.exists()


def test_runs_of_the_same_seed_are_the_same_and_of_another_are_not(script, tmp_path):
    for name, seed in (("a", "4"), ("b", "4"), ("c", "5")):
        assert script("--num_epochs", "1", "--seed", seed, "--run_name", name) == 0
    paths = [f"model_ckpts/vae/{name}/vae.weights.h5" for name in "abc"]
    assert_same_tensors(*paths[:2])
    first, other = tensors(paths[0]), tensors(paths[2])
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_validation_figures_take_the_place_of_test_figures(script):
    assert script("--validation_size", "40", "--num_epochs", "1") == 0
    figures = metrics()
    assert "test" not in figures
    assert figures["validation"]["num_examples"] == 40
    assert figures["train_examples"] == 160
    assert "validation_elbo" in history()[0]


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (["--beta", "8"], "train_rate"),
        (["--warmup_epochs", "2"], "train_loss"),
        (["--free_bits", "5"], "train_loss"),
        (["--binarize", "threshold"], "train_distortion"),
        (["--likelihood", "gaussian"], "train_distortion"),
        (["--network", "conv"], "train_distortion"),
        (["--activation", "leaky_relu"], "train_distortion"),
    ],
)
def test_each_setting_changes_training(script, trained_run, flags, changes):
    assert script("--num_epochs", "1", *flags) == 0
    reference = history(trained_run / "outputs/vae/mnist")[0]
    assert float(history()[0][changes]) != pytest.approx(float(reference[changes]), rel=1e-6)


def test_without_a_dataset_named_the_run_falls_back_and_says_so(script, tmp_path, monkeypatch, capsys):
    import data

    def unreachable(name, data_dir, offline):
        raise data.OutOfReachError(f"{name} is nowhere")

    monkeypatch.setitem(data.DATASETS, "mnist", unreachable)
    small = ["--num_epochs", "1", "--hidden_dims", "8", "--num_samples", "2"]
    assert script(*small, only=True) == 0
    assert "NOTE: MNIST is out of reach, so this run uses mnist_sample" in capsys.readouterr().out
    figures = metrics("outputs/vae/mnist_sample")
    assert figures["dataset"] == figures["run_name"] == "mnist_sample"
    assert figures["fallback_from"] == "mnist"
    assert script("--load_weights", "--num_epochs", "2", only=True) == 0, "found without naming it"
    figures = metrics("outputs/vae/mnist_sample")
    assert figures["epochs"] == 2
    assert figures["fallback_from"] == "mnist"

    assert script(*small, "--dataset", "mnist", only=True) == 1, "what was asked for is never substituted"
    assert "mnist is nowhere" in capsys.readouterr().err


def test_the_output_of_a_run_is_quiet_and_readable(tmp_path, idx_folder):
    """As a user sees it without a terminal: no chatter of TensorFlow, one line an epoch, no progress bar."""
    flags = ["--data_dir", str(idx_folder), "--num_epochs", "2", "--batch_size", "32", "--hidden_dims", "16"]
    done = run_process(*flags, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert len(lines) <= 13
    assert lines[-1] == "figures and pictures: outputs/vae/mnist"


@pytest.mark.parametrize(
    ("error", "line"), [(MemoryError(), "MemoryError"), (OSError("disk full\ndetails"), "disk full")]
)
def test_a_failure_of_the_machine_is_told_in_one_line(script, capsys, monkeypatch, error, line):
    from app import runs

    def fail(given):
        raise error

    monkeypatch.setattr(runs, "run", fail)
    assert script() == 1
    assert capsys.readouterr().err == f"assignment.py: error: {line}\n"


TOUCH_TWICE = """
import resource, threading
import numpy as np
{setting}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(25_000_000, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def touch():
    faults()
    print(faults())
thread = threading.Thread(target=touch)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_memory_that_a_step_frees_is_there_for_the_next():
    settings = ("", "import assignment; assignment.keep_freed_memory(of_large_steps=True)")
    commands = [[sys.executable, "-c", TOUCH_TWICE.format(setting=setting)] for setting in settings]
    without, kept = (int(subprocess.check_output(command, cwd=REPOSITORY)) for command in commands)
    assert without > 40  # of 2 MB each at most
    assert kept < without / 10
