"""The whole script on tiny data: what it writes, how it resumes, what it refuses."""

import csv
import ctypes
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import CHECKPOINT, REPOSITORY, assert_same_tensors, metrics, run_process, tensors
from matplotlib.image import imread

from storage.checkpoints import read_header

PICTURES = ("samples", "reconstructions", "interpolation", "latent_space", "traversals", "history")


def history(folder="outputs/vae/mnist"):
    with open(f"{folder}/history.csv") as file:
        return list(csv.DictReader(file))


def test_training_leaves_checkpoint_figures_and_pictures(script, tmp_path, real_pictures):
    assert script("--sample_and_save_frequency", "1", "--latent_size", "2") == 0
    outputs = tmp_path / "outputs/vae/mnist"
    written = {path.name for path in outputs.iterdir()}
    epochs = {f"epoch_00{n}_{kind}.png" for n in (1, 2) for kind in ("samples", "reconstructions")}
    assert written == {f"{name}.png" for name in (*PICTURES, "manifold")} | epochs | {
        "history.csv",
        "metrics.json",
        "report.html",
    }
    for path in outputs.glob("*.png"):
        height, width = imread(path).shape[:2]
        assert 30 < height < 3000
        assert 150 < width < 3000
    checkpoints = {path.name for path in (tmp_path / "model_ckpts/vae/mnist").iterdir()}
    assert checkpoints == {"vae.weights.h5", "epoch_001.weights.h5", "epoch_002.weights.h5"}


def test_metrics_and_history_hold_the_figures(start):
    start()
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
    assert script("--num_epochs", "15", "--lr", "1e-2", "--hidden_dims", "32") == 0
    rows = history()
    assert float(rows[-1]["test_elbo"]) > float(rows[0]["test_elbo"]) + 5


OF_PROCESS = "--num_epochs 2 --batch_size 32 --hidden_dims 16 --binarize dynamic --warmup_epochs 3 --seed 5".split()


def train_in_a_process(folder, *flags):
    done = run_process(*flags, *OF_PROCESS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def process_run(tmp_path_factory, idx_folder):
    """A folder with a run as a user starts it, and what it printed."""
    folder = tmp_path_factory.mktemp("process")
    return folder, train_in_a_process(folder, "--data_dir", str(idx_folder))


@pytest.mark.slow
def test_resumed_training_is_bit_identical_across_processes(script, process_run, xla, idx_folder):
    """2 + 2 epochs, in two processes, against 4, all with XLA: the same weights, optimizer, history."""
    shutil.copytree(process_run[0], ".", dirs_exist_ok=True)
    assert script("--load_weights", "--num_epochs", 4, only=True) == 0
    whole = ["--data_dir", idx_folder, *OF_PROCESS, "--num_epochs", 4, "--run_name", "whole"]
    assert script(*whole, only=True) == 0
    assert_same_resumed("vae")


@pytest.mark.slow
def test_resumed_training_of_a_cvae_is_bit_identical_across_processes(tmp_path, idx_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--data_dir", str(idx_folder), "--dataset", "mnist", "--model", "cvae"]
    train_in_a_process(tmp_path, *flags)
    for more in (["--load_weights"], ["--run_name", "whole"]):
        done = run_process(*flags, *OF_PROCESS, "--num_epochs", "4", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert_same_resumed("cvae")


def assert_same_resumed(model):
    assert_same_tensors(*(f"model_ckpts/{model}/{name}/{model}.weights.h5" for name in ("mnist", "whole")))
    histories = [history(f"outputs/{model}/{name}") for name in ("mnist", "whole")]
    assert histories[0] == histories[1]
    assert len(histories[0]) == 4


def test_nothing_left_to_train_is_said(script, start, capsys):
    start()
    before = tensors(CHECKPOINT)
    assert script("--load_weights") == 0
    assert "nothing left to train" in capsys.readouterr().out
    assert all(np.array_equal(before[name], value) for name, value in tensors(CHECKPOINT).items())


@pytest.mark.slow
def test_resuming_takes_the_stored_flags_and_a_given_learning_rate(script, capsys):
    assert script("--lr", "3e-3", "--num_epochs", "1") == 0
    assert script("--load_weights", "--num_epochs", "2", only=True) == 0
    assert read_header(CHECKPOINT)["config"]["learning_rate"] == 3e-3
    assert tensors(CHECKPOINT)["optimizer/vars/1"] == pytest.approx(3e-3)
    assert script("--load_weights", "--num_epochs", "3", "--lr", "1e-4", only=True) == 0
    assert "learning_rate: 0.0001 from now on, 0.003 before" in capsys.readouterr().out
    header = read_header(CHECKPOINT)
    assert header["epoch"] == 3
    assert header["config"]["learning_rate"] == 1e-4
    assert tensors(CHECKPOINT)["optimizer/vars/1"] == pytest.approx(1e-4)
    assert header["config"]["batch_size"] == 32
    assert len(history()) == 3


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


def test_sampling_needs_nothing_but_the_checkpoint(script, trained_run, tmp_path):
    moved = tmp_path / "elsewhere.weights.h5"
    shutil.copy(trained_run / CHECKPOINT, moved)
    assert script("--sample", "--checkpoint", str(moved), "--num_samples", "7", only=True) == 0
    with np.load("outputs/vae/elsewhere/samples.npz", allow_pickle=False) as arrays:
        assert arrays.files == ["images"]
        images = arrays["images"]
    assert images.shape == (7, 12, 12, 1)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert not (tmp_path / "model_ckpts").exists()
    assert script("--sample", "--checkpoint", str(moved), "--num_samples", "7", "--seed", "1", only=True) == 0
    assert not np.array_equal(np.load("outputs/vae/elsewhere/samples.npz")["images"], images)


def test_a_picture_shows_the_first_of_very_many_samples_and_the_arrays_hold_all(
    script, trained_run, monkeypatch, real_pictures
):
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
    arrays = np.load("outputs/cvae/mnist/samples_7_3.npz")
    assert arrays["labels"].tolist() == [7, 7, 3, 3]
    assert arrays["images"].shape == (4, 12, 12, 1)
    assert len(np.load("outputs/cvae/mnist/samples.npz")["labels"]) == 20, "samples of all classes stay"


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
        (["--is_cvae", "--labels", "12"], "--labels 12: the model has no such class, but 0, 1, 2, 3"),
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


@pytest.mark.slow
def test_flags_may_be_repeated_where_they_have_no_effect_and_are_noted(script, start, capsys):
    start("--model", "cvae")
    assert script("--is_cvae", "--load_weights", "--sample", "--num_epochs", "9") == 0
    assert "NOTE: ignored here: --batch_size, --num_epochs\n" in capsys.readouterr().out
    asked = ["--batch_size", "7", "--beta", "8", "--labels", "3", "--num_importance_samples", "0"]
    assert script("--is_cvae", "--evaluate", *asked) == 0
    note = "NOTE: ignored here: --batch_size, --num_epochs, --beta, --num_samples, --labels\n"
    assert note in capsys.readouterr().out
    figures = metrics("outputs/cvae/mnist")
    assert (figures["batch_size"], figures["beta"]) == (32, 1), "what it was trained with"


@pytest.mark.slow
def test_asking_for_what_the_checkpoint_has_by_default_is_no_difference(script, idx_folder):
    assert script("--data_dir", idx_folder, "--dataset", "mnist", "--num_epochs", "1", only=True) == 0
    assert script("--sample", "--hidden_dims", "400", "400", "--network", "mlp", only=True) == 0


def set_aside(name="mnist"):
    """As the next run of the same name does it."""
    for root in ("model_ckpts", "outputs"):
        shutil.move(f"{root}/vae/{name}", f"{root}/vae/{name}.previous")


def test_a_fresh_run_sets_the_earlier_one_aside(script, start, tmp_path, capsys):
    start()
    set_aside()
    start("--seed", "1")
    assert script("--num_epochs", "1", "--seed", "3") == 0
    assert "moved to model_ckpts/vae/mnist.previous" in capsys.readouterr().out
    for root in ("model_ckpts", "outputs"):
        assert {path.name for path in (tmp_path / root / "vae").glob("[!.]*")} == {"mnist", "mnist.previous"}
    assert metrics()["seed"] == 3
    assert metrics("outputs/vae/mnist.previous")["seed"] == 1


def test_runs_that_fail_at_once_do_not_displace_a_good_one(script, start):
    start()
    before = tensors(CHECKPOINT)
    for _ in range(2):
        assert script("--num_epochs", "1", "--lr", "1e30") == 1
    kept = tensors("model_ckpts/vae/mnist.previous/vae.weights.h5")
    assert all(np.array_equal(before[name], value) for name, value in kept.items())


@pytest.mark.slow
def test_a_checkpoint_that_setting_aside_would_delete_is_kept(script, start, tmp_path, capsys):
    start()
    set_aside()
    start()
    source = tmp_path / "model_ckpts/vae/mnist.previous/vae.weights.h5"
    assert script("--checkpoint", str(source), "--num_epochs", "3", only=True) == 1
    assert "--run_name" in capsys.readouterr().err
    assert source.exists()
    assert script("--checkpoint", str(source), "--num_epochs", "3", "--run_name", "again", only=True) == 0
    assert metrics("outputs/vae/again")["epochs"] == 3
    assert source.exists()


def test_runs_of_the_same_seed_are_the_same_and_of_another_are_not(script, trained):
    assert script() == 0
    assert_same_tensors(CHECKPOINT, trained() / CHECKPOINT)
    first, other = tensors(CHECKPOINT), tensors(trained("--seed", "1") / CHECKPOINT)
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
        pytest.param(["--beta", "8"], "train_rate", marks=pytest.mark.slow),
        (["--warmup_epochs", "2"], "train_loss"),
        pytest.param(["--free_bits", "5"], "train_loss", marks=pytest.mark.slow),
        (["--binarize", "threshold"], "train_distortion"),
        pytest.param(["--likelihood", "gaussian"], "train_distortion", marks=pytest.mark.slow),
        pytest.param(["--network", "conv"], "train_distortion", marks=pytest.mark.slow),
        pytest.param(["--activation", "leaky_relu"], "train_distortion", marks=pytest.mark.slow),
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


def test_the_output_of_a_run_is_quiet_and_readable(process_run):
    """As a user sees it without a terminal: no chatter of TensorFlow, one line an epoch, no progress bar."""
    _, done = process_run
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert len(lines) <= 14  # binary pixels have a line more, of bits per dimension
    assert lines[-1] == "figures and pictures: outputs/vae/mnist"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "MemoryError"),
        (OSError("disk full\ndetails"), "disk full"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), "OOM when allocating"),
    ],
)
def test_a_failure_of_the_machine_is_told_in_one_line(script, capsys, monkeypatch, error, line):
    """In the midst of a run: while its model is made."""
    import app.verbs

    def fail(**_):
        raise error

    monkeypatch.setattr(app.verbs, "build_model", fail)
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
