"""Interruption, divergence, full disks, two at once: nothing is lost, and one line says what to do."""

import functools
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    CHECKPOINT,
    REPOSITORY,
    SMALL,
    assert_same_tensors,
    metrics,
    run_process,
    save_one_pixel,
    start_process,
    tensors,
    wait_for,
)

import vae
import visualize
from storage.checkpoints import read_header

HISTORY = "outputs/vae/mnist/history.csv"
KEEP_ALL = ("--sample_and_save_frequency", "1")


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)


def interrupt(monkeypatch, method="train_step", *, number=signal.SIGINT, call=1, with_nan=False):
    """Send a signal in this step of training or testing, and have its loss be NaN if asked to."""
    calls, original = [], getattr(vae.VAE, method)

    def count():
        calls.append(None)
        if len(calls) == call:
            send(number)

    def interrupted(self, batch):
        tf.py_function(count, [], [])
        if with_nan:
            for variable in self.trainable_variables:
                variable.assign(variable * np.nan)
        return original(self, batch)

    monkeypatch.setattr(vae.VAE, method, interrupted)


def at_first_epoch_picture(monkeypatch, do):
    """Do this when the pictures of an epoch are begun."""
    calls = []

    def save(figure, path, *args, **kwargs):
        if pathlib.Path(path).name.startswith("epoch_") and not calls:
            calls.append(path)
            do()
        save_one_pixel(figure, path)

    monkeypatch.setattr(visualize, "save", save)


@pytest.fixture
def small(idx_folder):
    """Flags of a run in a process of its own."""
    return ["--data_dir", str(idx_folder), *SMALL]


@pytest.fixture
def undisturbed(trained):
    """A folder with a run of three epochs."""
    return trained("--num_epochs", "3", *KEEP_ALL)


def assert_same_run(folder, undisturbed):
    for number in (1, 2, 3):
        assert_same_tensors(
            *(root / f"model_ckpts/vae/mnist/epoch_00{number}.weights.h5" for root in (folder, undisturbed))
        )
    assert_same_tensors(folder / CHECKPOINT, undisturbed / CHECKPOINT)
    assert (folder / HISTORY).read_bytes() == (undisturbed / HISTORY).read_bytes()
    for kind in ("model_ckpts", "outputs"):
        written = [
            sorted(path.name for path in (root / kind / "vae/mnist").iterdir()) for root in (folder, undisturbed)
        ]
        assert written[0] == written[1]


@pytest.mark.parametrize(
    ("number", "exit_code", "method", "call", "told"),
    [
        pytest.param(signal.SIGINT, 130, "train_step", 1, "stopped in epoch 1, after step 2;", marks=pytest.mark.slow),
        (signal.SIGTERM, 143, "train_step", 9, "stopped in epoch 2, after step 4;"),
        pytest.param(signal.SIGINT, 130, "train_step", 12, "stopped in epoch 2, after step 6;", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, "test_step", 2, "stopped in epoch 2, after step 6;", marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_anywhere_goes_on_as_if_it_had_not_been(
    script, monkeypatch, capsys, tmp_path, undisturbed, number, exit_code, method, call, told
):
    # Two steps between returns to Python; every 34th, where it saves, is in no epoch of six.
    flags = ["--num_epochs", "3", *KEEP_ALL, "--save_every_steps", "34"]
    with monkeypatch.context() as patch:
        interrupt(patch, method, number=number, call=call)
        assert script(*flags) == exit_code
    errors = capsys.readouterr().err
    assert f"{told} to go on from there, add --load_weights to the same command\n" in errors
    assert read_header(CHECKPOINT)["step"] > 0
    assert script(*flags, "--load_weights") == 0
    assert_same_run(tmp_path, undisturbed)


def test_a_run_stopped_while_its_pictures_are_drawn_has_its_epoch_saved(
    script, monkeypatch, capsys, tmp_path, undisturbed
):
    at_first_epoch_picture(monkeypatch, functools.partial(send, signal.SIGINT))
    assert script("--num_epochs", "3", *KEEP_ALL) == 130
    assert "stopped between epochs; to go on from there" in capsys.readouterr().err
    assert script("--num_epochs", "3", *KEEP_ALL, "--load_weights") == 0
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_run_that_continues_another_ones_checkpoint_says_which_is_its_own(script, start, monkeypatch, capsys):
    start()
    with monkeypatch.context() as patch:
        interrupt(patch)
        assert script("--checkpoint", CHECKPOINT, "--run_name", "new", "--num_epochs", "3") == 130
    newest = "model_ckpts/vae/new/vae.weights.h5"
    assert f"to go on from there, give --checkpoint {newest}\n" in capsys.readouterr().err
    assert script("--checkpoint", newest, only=True) == 0
    assert read_header(newest)["epoch"] == 3
    assert not pathlib.Path("model_ckpts/vae/new.previous").exists()


def test_a_run_stopped_in_its_first_epoch_takes_no_runs_place(script, start, monkeypatch, capsys):
    start("--seed", "1")
    for _ in range(2):
        with monkeypatch.context() as patch:
            interrupt(patch)
            assert script("--seed", "2", "--tensorboard") == 130
    assert "stopped in its first epoch: removed model_ckpts/vae/mnist" in capsys.readouterr().out
    assert read_header("model_ckpts/vae/mnist.previous/vae.weights.h5")["config"]["seed"] == 1
    assert pathlib.Path("outputs/vae/mnist.previous/metrics.json").exists()


def test_weights_that_are_not_finite_are_not_saved_for_a_signal_either(script, monkeypatch, capsys):
    interrupt(monkeypatch, "test_step", with_nan=True)
    assert script() == 1
    assert "no longer finite after epoch 1. Try a smaller --learning_rate" in capsys.readouterr().err
    assert not pathlib.Path(CHECKPOINT).exists()


def test_checkpoints_and_outputs_may_share_a_folder(script):
    assert script("--num_epochs", "1", "--checkpoint_dir", "both", "--output_dir", "both") == 0


@pytest.mark.slow
def test_what_a_killed_run_had_not_left_of_an_epoch_is_made_up_for(script, monkeypatch, tmp_path, undisturbed):
    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    at_first_epoch_picture(monkeypatch, kill)
    with pytest.raises(Killed):
        script("--num_epochs", "3", *KEEP_ALL)
    for folder in ("model_ckpts", "outputs"):
        (tmp_path / folder / "vae/mnist/.partial.half").write_text("written")
    assert script("--num_epochs", "3", *KEEP_ALL, "--load_weights") == 0
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.slow
def test_checkpoints_come_more_often_than_epochs_and_change_nothing(script, monkeypatch, tmp_path, undisturbed):
    saved, replace = [], os.replace

    def replace_and_note(source, target):
        replace(source, target)
        if pathlib.Path(target).name == "vae.weights.h5":
            header = read_header(target)
            saved.append((header["epoch"], header["step"]))

    monkeypatch.setattr(os, "replace", replace_and_note)
    assert script("--num_epochs", "3", *KEEP_ALL, "--save_every_steps", "4") == 0
    assert saved == [(0, 4), (1, 0), (1, 4), (2, 0), (2, 4), (3, 0)]
    assert_same_run(tmp_path, undisturbed)


def test_a_checkpoint_from_within_the_first_epoch_can_be_evaluated_and_says_where_it_is_from(
    script, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        interrupt(patch)
        assert script("--save_every_steps", "2") == 130
    assert script("--evaluate", "--num_importance_samples", "2") == 0
    figures = metrics()
    assert (figures["epochs"], figures["steps"]) == (0, 2)
    assert script("--compare", "vae/mnist", only=True) == 1
    assert "has no whole epoch yet" in capsys.readouterr().err
    assert script("--load_weights", "--batch_size", "20") == 1
    assert "--batch_size can change only between epochs" in capsys.readouterr().err
    assert script("--load_weights", "--seed", "5") == 1
    assert "--seed can change only between epochs" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_process_can_be_continued(tmp_path, small, script, capsys):
    """And while it trains, a second training of the run says who holds it."""
    process = start_process(*small, "--num_epochs", "5000", cwd=tmp_path)
    wait_for((tmp_path / CHECKPOINT).exists)
    for extra in ([], ["--load_weights"], ["--checkpoint_dir", "elsewhere"]):
        assert script("--num_epochs", "5000", *extra) == 1  # so many are never done before
        assert f"vae/mnist (process {process.pid} on " in capsys.readouterr().err
    assert not (tmp_path / "model_ckpts/vae/mnist.previous").exists()
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.count("\n") == 1
    assert "to go on from there, add --load_weights to the same command" in errors
    header = read_header(CHECKPOINT)
    assert header["iterations"] > 0
    assert script("--load_weights", "--num_epochs", header["epoch"] + 1) == 0
    assert read_header(CHECKPOINT)["epoch"] == header["epoch"] + 1


def test_divergence_names_its_step_and_keeps_the_last_good_checkpoint(script, start, capsys, tmp_path):
    start()
    before = (tmp_path / CHECKPOINT).read_bytes()
    for often in ("0", "1"):
        assert script("--load_weights", "--num_epochs", "3", "--lr", "1e30", "--save_every_steps", often) == 1
        errors = capsys.readouterr().err
        # The second step finds what the first has done, and a checkpoint after the first would find it too.
        where = "in step 2 of epoch 3" if often == "0" else "after step 1 of epoch 3"
        assert f"the loss is no longer finite {where}. Try a smaller --learning_rate, as 1e+29 (it is 1e+30)" in errors
        assert "the last checkpoint is untouched, and --load_weights goes on from it" in errors
        assert errors.count("\n") == 1
        assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.slow
def test_a_file_that_cannot_grow_leaves_the_earlier_checkpoint(tmp_path, small, start):
    """As on a full disk: the system refuses to write more than a share of the checkpoint."""
    start()
    before = (tmp_path / CHECKPOINT).read_bytes()
    for share in (0.05, 0.4, 0.95):
        limit = int(share * len(before))
        refuse_more = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
        done = run_process(*small, "--num_epochs", "3", "--load_weights", cwd=tmp_path, preexec_fn=refuse_more)
        assert done.returncode == 1, done.stderr
        told = f"assignment.py: error: cannot write {CHECKPOINT}: File too large. An earlier file there is untouched"
        assert done.stderr.startswith(told)
        assert done.stderr.count("\n") == 1
        assert (tmp_path / CHECKPOINT).read_bytes() == before
        assert [path.name for path in (tmp_path / CHECKPOINT).parent.iterdir()] == ["vae.weights.h5"]


@pytest.mark.slow
def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, small, trained):
    """A real one: a tmpfs of four megabytes, in a mount namespace of its own."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode or not shutil.which("mount"):
        pytest.skip("no mount namespace can be made here")
    run = " ".join([sys.executable, str(REPOSITORY / "assignment.py"), *small])
    commands = f"""
        set -e
        mount -t tmpfs -o size=4m tmpfs model_ckpts || exit 99
        mkdir -p {pathlib.Path(CHECKPOINT).parent}
        cp {trained() / CHECKPOINT} {CHECKPOINT}
        sha256sum {CHECKPOINT} > before
        head -c 5m /dev/zero > model_ckpts/filler 2> /dev/null || true
        truncate -s -8k model_ckpts/filler
        set +e
        {run} --num_epochs 3 --load_weights > /dev/null
        code=$?
        sha256sum --check --quiet before
        ls -A model_ckpts/vae/mnist
        exit $code
    """
    (tmp_path / "model_ckpts").mkdir()
    done = subprocess.run(["unshare", "-rm", "bash", "-c", commands], cwd=tmp_path, capture_output=True, text=True)
    if done.returncode == 99:
        pytest.skip("no tmpfs can be mounted here")
    assert done.returncode == 1, done.stderr
    assert f"error: cannot write {CHECKPOINT}: No space left on device. An earlier file there is" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == "vae.weights.h5\n"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--checkpoint_dir", "taken"], "cannot make the folder taken/vae"),
        (["--output_dir", "taken"], "cannot make the folder taken/vae"),
        (["--output_dir", "/proc/nowhere"], "cannot make the folder /proc/nowhere/vae"),
    ],
)
def test_folders_that_cannot_be_are_told_before_training(script, capsys, tmp_path, flags, line):
    (tmp_path / "taken").write_text("a file")
    assert script(*flags) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"assignment.py: error: {line}")
    assert captured.err.count("\n") == 1
    assert "epoch" not in captured.out


HOLD = """
from pathlib import Path
from storage.locks import holding
with holding([Path("model_ckpts/vae/mnist"), Path("outputs/vae/mnist")]):
    print("held", flush=True)
    input()
"""


def test_a_second_training_of_a_run_says_who_holds_it(tmp_path, script, start, capsys):
    """And a dead process holds nothing."""
    start()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLD], env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, **pipes)
    assert process.stdout.readline() == "held\n"
    for extra in ([], ["--load_weights", "--num_epochs", "3"], ["--checkpoint_dir", "elsewhere"]):
        assert script(*extra) == 1
        errors = capsys.readouterr().err
        assert f"vae/mnist (process {process.pid} on " in errors
        assert "--run_name" in errors
        assert errors.count("\n") == 1
    assert not (tmp_path / "model_ckpts/vae/mnist.previous").exists()
    assert script("--num_epochs", "1", "--run_name", "another") == 0
    process.kill()
    process.communicate()
    assert script("--load_weights", "--num_epochs", "3") == 0
    assert read_header(CHECKPOINT)["epoch"] == 3


def test_a_run_killed_before_its_first_checkpoint_takes_no_runs_place(script, start, tmp_path):
    start()
    good = tensors(CHECKPOINT)
    for _ in range(2):
        for folder in ("model_ckpts", "outputs"):
            (tmp_path / folder / "vae/mnist").rename(tmp_path / folder / "vae/mnist.previous")
            (tmp_path / folder / "vae/mnist").mkdir()
            (tmp_path / folder / "vae/mnist/.partial.vae.weights.h5").write_text("half")
        assert script("--num_epochs", "1", "--lr", "1e30") == 1
        for folder in ("model_ckpts", "outputs"):
            (tmp_path / folder / "vae/mnist").rmdir()
            (tmp_path / folder / "vae/mnist.previous").rename(tmp_path / folder / "vae/mnist")
    assert all(np.array_equal(good[name], value) for name, value in tensors(CHECKPOINT).items())


def test_a_package_that_is_missing_is_told_in_one_line(tmp_path):
    """As when the environment was not activated; -I -S hides what is installed."""
    program = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import assignment; sys.exit(assignment.main([]))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("assignment.py: error: No module named ")
    assert "requirements.txt" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unexpected_error_keeps_its_traceback_after_a_line_with_versions(script, capsys, monkeypatch):
    import data

    def fail(*_):
        raise ValueError("what nobody thought of")

    monkeypatch.setitem(data.DATASETS, "mnist", fail)
    with pytest.raises(ValueError, match="nobody thought of"):
        script()
    errors = capsys.readouterr().err
    assert errors.startswith("assignment.py: this is a bug; please report it with all that follows (python 3.")
    for name in ("tensorflow 2.", "keras 3.", "numpy ", "h5py "):
        assert name in errors
