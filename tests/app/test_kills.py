"""SIGKILL at random moments, while training and while saving; what is continued is what nobody disturbed."""

import concurrent.futures
import functools
import random
import re
import signal
import time

import pytest
from conftest import assert_same_tensors, run_process, start_process, wait_for

from storage.checkpoints import read_header
from storage.files import PARTIAL

KILLS = 17  # of each of three runs at the same time
CHECKPOINT = "model_ckpts/vae/mnist/vae.weights.h5"


def without_minutes(content: bytes) -> bytes:
    """report.html says for how long the run was trained."""
    return re.sub(rb"in [\d.]+ minutes", b"", content)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path, idx_folder):
    flags = ["--data_dir", str(idx_folder), "--dataset", "mnist", "--batch_size", "10", "--hidden_dims", "16"]
    flags += ["--latent_size", "2", "--binarize", "dynamic", "--num_epochs", "150", "--num_samples", "2"]
    flags += ["--save_every_steps", "5"]
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run_process(*flags, cwd=whole).returncode == 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        campaigns = [pool.submit(kill_again_and_again, tmp_path / f"killed_{n}", flags, seed=n) for n in range(3)]
        left_half_written = sum(campaign.result() for campaign in campaigns)
    assert left_half_written >= 10, "kills while saving"
    for n in range(3):
        for path in whole.rglob("*.weights.h5"):
            assert_same_tensors(tmp_path / f"killed_{n}" / path.relative_to(whole), path)
        for path in whole.rglob("outputs/vae/mnist/*"):
            if path.name != "metrics.json":  # holds times
                killed = tmp_path / f"killed_{n}" / path.relative_to(whole)
                assert without_minutes(killed.read_bytes()) == without_minutes(path.read_bytes()), path
    assert read_header(whole / CHECKPOINT)["history"] == read_header(tmp_path / "killed_0" / CHECKPOINT)["history"]


def kill_again_and_again(folder, flags, seed) -> int:
    """Run to the end through KILLS kills; the number of them that left a file half-written."""
    folder.mkdir()
    rng = random.Random(seed)
    checkpoint = folder / CHECKPOINT
    stray = checkpoint.with_name(f"{PARTIAL}epoch_777.weights.h5")
    left_half_written = 0
    for number in range(KILLS):
        before = read_header(checkpoint)["iterations"] if checkpoint.exists() else 0
        if checkpoint.exists():
            stray.write_text("of an earlier start")
        process = start_process(*flags, *(["--load_weights"] if before else []), cwd=folder)
        started = time.time()
        if number % 8 == 7:  # at any time, also before training
            time.sleep(rng.uniform(0, 8))
        else:
            wait_for(functools.partial(is_newer, checkpoint, started), seconds=300)
            assert not stray.exists()
            time.sleep(rng.uniform(0, 0.5))
            if number % 2:
                wait_for(functools.partial(is_saving, checkpoint), pause=0.0003)
                time.sleep(rng.uniform(0, 0.005))
        process.send_signal(signal.SIGKILL)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, f"over before kill {number}: {out} {errors}"
        left_half_written += is_saving(checkpoint)
        if checkpoint.exists():
            assert read_header(checkpoint)["iterations"] >= before, "the newest checkpoint is whole and the newest"
    done = run_process(*flags, "--load_weights", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not list(folder.rglob(f"{PARTIAL}*"))
    return left_half_written


def is_newer(path, than) -> bool:
    return path.exists() and path.stat().st_mtime > than


def is_saving(checkpoint) -> bool:
    return any(checkpoint.parent.glob(f"{PARTIAL}*.{checkpoint.name}"))
