"""--slim: a checkpoint to hand on."""

import json

import pytest
from conftest import CHECKPOINT, metrics

import vae
from storage.checkpoints import read_header

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
