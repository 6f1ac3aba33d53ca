"""--slim: a checkpoint to hand on."""

import json

import numpy as np
import pytest
from conftest import CHECKPOINT, metrics

import vae
from storage.checkpoints import CheckpointError, read_header, save_slim

SLIM = "outputs/vae/mnist/vae_mnist.weights.h5"


def test_a_slim_checkpoint_gives_the_figures_of_the_run(start, script, idx_folder, tmp_path, capsys):
    start()
    before = metrics()
    assert script("--slim") == 0
    assert f"wrote {SLIM}: " in capsys.readouterr().out
    slim, full = (tmp_path / name for name in (SLIM, CHECKPOINT))
    assert slim.stat().st_size < full.stat().st_size / 2
    assert script("--evaluate", "--checkpoint", SLIM, "--num_importance_samples", 0) == 0
    after = metrics()
    assert after["steps"] == before["steps"]
    assert after["test"]["elbo"] == pytest.approx(before["test"]["elbo"], rel=1e-3)
    assert after["test"]["elbo"] != before["test"]["elbo"], "the weights were rounded"


def test_a_slim_checkpoint_names_no_folder_of_the_machine(start, script, idx_folder, tmp_path):
    start()
    assert script("--slim", "--to", "shared") == 0
    text = json.dumps(read_header(tmp_path / "shared/vae_mnist.weights.h5"))
    assert str(idx_folder) in json.dumps(read_header(tmp_path / CHECKPOINT))
    assert str(idx_folder) not in text
    assert str(tmp_path) not in text


def test_a_slim_checkpoint_continues_with_a_new_optimizer(start, script, tmp_path, capsys):
    start()
    assert script("--slim", "--to", "shared") == 0
    assert script("--checkpoint", "shared/vae_mnist.weights.h5", "--num_epochs", 3) == 0
    assert "is a slim checkpoint: its weights were rounded, and the optimizer starts anew" in capsys.readouterr().out
    header = read_header(tmp_path / "model_ckpts/vae/vae_mnist/vae.weights.h5")
    assert header["epoch"] == 3
    assert "slim" not in header
    first, last = header["history"][0], header["history"][-1]
    assert last["test_elbo"] > first["test_elbo"], "averages of the new weights, not of the initial ones"
    assert vae.load(tmp_path / "shared/vae_mnist.weights.h5").sample(2).shape == (2, 12, 12, 1)


@pytest.mark.slow
def test_a_slim_checkpoint_of_own_images_is_not_taken_for_a_dataset_of_that_name(script, tmp_path):
    np.savez(tmp_path / "mnist.npz", images=np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    assert script("--dataset", "mnist.npz", "--num_epochs", 1, "--hidden_dims", 4, "--run_name", "own") == 0
    assert script("--slim", "--run_name", "own", "--to", "shared", only=True) == 0
    slim = "shared/vae_own.weights.h5"
    flags = ["--evaluate", "--checkpoint", slim, "--num_importance_samples", 0]
    assert read_header(tmp_path / slim)["config"]["dataset"] == "./mnist"
    assert script(*flags, "--dataset", "mnist.npz", only=True) == 0


def test_slim_does_not_replace_what_it_reads_nor_lose_a_weight(start, script, tmp_path, capsys):
    start()
    assert script("--slim", "--to", "model_ckpts/vae/mnist") == 0
    source = tmp_path / "model_ckpts/vae/mnist/vae_mnist.weights.h5"
    before = source.read_bytes()
    assert script("--slim", "--checkpoint", source, "--to", source.parent) == 1
    assert f"--slim would replace {source} itself" in capsys.readouterr().err
    assert source.read_bytes() == before
    model = vae.load(tmp_path / CHECKPOINT).model
    model.trainable_variables[0].assign(model.trainable_variables[0].numpy() + 7e4)
    with pytest.raises(CheckpointError, match="beyond the range of 16 bits"):
        save_slim(model, tmp_path / "large.weights.h5", {})
    assert not (tmp_path / "large.weights.h5").exists()


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--slim", "--sample"], 2, "--slim goes with no other verb"),
        (["--slim", "--compare", "vae/mnist"], 2, "--compare takes runs as they are"),
        (["--slim"], 1, "there is no checkpoint at"),
        (["--to", "shared"], 2, "--to goes with --encode, --score"),
    ],
)
def test_slim_refuses(script, capsys, flags, code, message):
    with pytest.raises(SystemExit) if code == 2 else pytest.MonkeyPatch.context() as ended:
        assert script(*flags) == code
    if code == 2:
        assert ended.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert message in told[-1]
