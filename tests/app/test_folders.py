"""Where a run's files are: two runs are never mixed, and no work is lost."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from conftest import CHECKPOINT, metrics

import visualize
from app.folders import Folders, branch_off, previous, set_aside
from app.run import default_run_name, run_of_file
from storage.checkpoints import read_header

CHECKPOINTS, OUTPUTS = pathlib.Path("model_ckpts/vae/mnist"), pathlib.Path("outputs/vae/mnist")
KEEP_ALL = ("--sample_and_save_frequency", "1")


def epochs(folder):
    return len((pathlib.Path(folder) / "history.csv").read_text().splitlines()) - 1


@pytest.mark.slow
def test_going_back_within_a_run_sets_its_newer_state_aside(script, start, capsys):
    start(*KEEP_ALL)
    assert script("--checkpoint", CHECKPOINTS / "epoch_001.weights.h5", "--lr", "0.5", "--num_epochs", "2") == 0
    said = capsys.readouterr().out
    assert f"its newer state is in {CHECKPOINTS}.previous" in said
    old, new = (read_header(folder / "vae.weights.h5") for folder in (previous(CHECKPOINTS), CHECKPOINTS))
    assert old["history"][0] == new["history"][0]
    assert old["history"][1] != new["history"][1]
    assert read_header(CHECKPOINTS / "epoch_002.weights.h5")["history"] == new["history"]
    assert read_header(CHECKPOINTS / "epoch_001.weights.h5")["history"] == new["history"][:1]
    assert (OUTPUTS / "epoch_001_samples.png").exists()
    assert epochs(previous(OUTPUTS)) == epochs(OUTPUTS) == 2
    assert metrics()["settings_by_epoch"][0]["learning_rate"] == 1e-3
    assert {"from_epoch": 2, "learning_rate": 0.5}.items() <= metrics()["settings_by_epoch"][1].items()


@pytest.mark.slow
def test_a_branch_that_was_killed_goes_on_with_files_of_its_own(script, start, monkeypatch):
    """What the abandoned branch kept of an epoch is not taken for this one's."""
    start(*KEEP_ALL)

    class Killed(BaseException):
        pass

    def killed(figure, path, *args, **kwargs):
        if "epoch_002" in str(path):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(visualize, "save", killed)
        with pytest.raises(Killed):
            script("--checkpoint", CHECKPOINTS / "epoch_001.weights.h5", "--lr", "0.5", "--num_epochs", "2")
    shutil.copy(previous(CHECKPOINTS) / "epoch_002.weights.h5", CHECKPOINTS)  # as if it had been left there
    assert script("--load_weights", "--num_epochs", "2") == 0
    assert read_header(CHECKPOINTS / "epoch_002.weights.h5")["history"] == read_header(CHECKPOINT)["history"]


def test_an_older_checkpoint_with_nothing_to_train_cuts_nothing_back(script, start, capsys):
    start(*KEEP_ALL)
    assert script("--checkpoint", CHECKPOINTS / "epoch_001.weights.h5", "--num_epochs", "1", only=True) == 1
    assert "leaves nothing to train: give more, or --evaluate" in capsys.readouterr().err
    assert epochs(OUTPUTS) == metrics()["epochs"] == read_header(CHECKPOINT)["epoch"] == 2


def test_figures_belong_to_the_run_whose_checkpoint_was_evaluated(script, start, idx_folder):
    start()
    before = (OUTPUTS / "metrics.json").read_bytes()
    for name in ("mnist.previous", "copy"):
        shutil.copytree(CHECKPOINTS, CHECKPOINTS.with_name(name))
        checkpoint = CHECKPOINTS.with_name(name) / "vae.weights.h5"
        assert script("--evaluate", "--checkpoint", checkpoint, "--max_examples", "9", only=True) == 0
        assert metrics(OUTPUTS.with_name(name))["run_name"] == name
    assert (OUTPUTS / "metrics.json").read_bytes() == before


def test_a_file_outside_of_runs_names_its_own_run():
    assert run_of_file(pathlib.Path("model_ckpts/vae/a/vae.weights.h5"), "vae") == "a"
    assert run_of_file(pathlib.Path("model_ckpts/vae/a/epoch_002.weights.h5"), "vae") == "a"
    assert run_of_file(pathlib.Path("/some/where/best.weights.h5"), "vae") == "best"


def test_a_dataset_is_not_named_like_a_run_set_aside():
    assert default_run_name("/data/d.previous.npz") == "d-previous"
    assert default_run_name("/data/d.npz") == "d"


def filled(folder, name, text="x"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_one_folder_for_checkpoints_and_outputs_is_set_aside_once(tmp_path):
    folder = tmp_path / "runs/vae/a"
    folders = Folders("vae", folder, folder)
    filled(folder, "work", "first")
    set_aside(folders)
    assert (previous(folder) / "work").read_text() == "first"
    assert not folder.exists()


def test_a_run_in_its_first_epoch_does_not_take_the_outputs_of_another_with_it(tmp_path, monkeypatch):
    """Runs of one name with two folders of checkpoints share their outputs."""
    folders = Folders("vae", tmp_path / "c/vae/a", tmp_path / "o/vae/a")
    filled(previous(folders.checkpoints), "vae.weights.h5")
    monkeypatch.setattr("app.folders.is_in_first_epoch", lambda checkpoint: True)
    for results in ("first", "second"):
        filled(folders.checkpoints, "vae.weights.h5")
        filled(folders.outputs, "history.csv", results)
        set_aside(folders)
        assert not folders.checkpoints.exists()
    kept = {path.name: (path / "history.csv").read_text() for path in folders.outputs.parent.iterdir()}
    assert kept == {"a.previous": "first", "a.previous-2": "second"}


def test_one_folder_named_in_two_ways_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = Folders("vae", pathlib.Path("runs/vae/a"), tmp_path / "runs/vae/a")
    for name in ("epoch_001.weights.h5", "epoch_002.weights.h5", "vae.weights.h5"):
        filled(folders.checkpoints, name, name)
    branch_off(folders, folders.kept(1), 1)
    assert folders.newest.read_text() == "epoch_001.weights.h5"
    assert (previous(folders.checkpoints) / "vae.weights.h5").exists()


def test_a_branch_keeps_what_both_share_and_nothing_newer(tmp_path):
    folders = Folders("vae", tmp_path / "c/vae/a", tmp_path / "o/vae/a")
    for epoch in (1, 2, 10):
        filled(folders.checkpoints, f"epoch_{epoch:03d}.weights.h5", str(epoch))
        filled(folders.outputs, f"epoch_{epoch:03d}_samples.png", str(epoch))
    filled(folders.checkpoints, "vae.weights.h5", "10")
    branch_off(folders, folders.kept(2), 2)
    assert folders.newest.read_text() == "2"
    assert {path.name for path in folders.outputs.iterdir()} == {"epoch_001_samples.png", "epoch_002_samples.png"}
    assert (previous(folders.checkpoints) / "vae.weights.h5").read_text() == "10"


def test_a_model_chosen_on_a_validation_split_can_be_tested(script, capsys):
    assert script("--validation_size", "50") == 0
    validation = metrics()["validation"]
    assert script("--evaluate", "--validation_size", "0") == 0
    assert "test figures of 60 examples" in capsys.readouterr().out
    figures = metrics()
    assert figures["test"]["num_examples"] == 60
    assert figures["validation"]["elbo"] == validation["elbo"], "of the same weights, so they stay"
    assert figures["train_examples"] == 150
    assert read_header(CHECKPOINT)["config"]["validation_size"] == 50
    assert script("--validation_size", "0", "--load_weights", "--num_epochs", "3") == 1
    assert "you asked for 0" in capsys.readouterr().err


@pytest.mark.slow
def test_pictures_without_figures_do_not_stay(script, start):
    start()
    assert script("--evaluate", "--ood_dataset", "noise", "--num_importance_samples", "1") == 0
    assert (OUTPUTS / "ood_noise.png").exists()
    assert script("--load_weights", "--num_epochs", "3") == 0
    assert "out_of_distribution" not in metrics()["test"]
    assert not (OUTPUTS / "ood_noise.png").exists()


def test_samples_of_some_classes_leave_those_of_all(script, trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path, dirs_exist_ok=True)
    before = pathlib.Path("outputs/cvae/mnist/samples.png").stat().st_mtime_ns
    checkpoint = "model_ckpts/cvae/mnist/cvae.weights.h5"
    assert script("--sample", "--checkpoint", checkpoint, "--labels", "7", only=True) == 0
    assert np.load("outputs/cvae/mnist/samples_7.npz")["labels"].tolist() == [7] * 4
    assert pathlib.Path("outputs/cvae/mnist/samples_7.png").exists()
    assert pathlib.Path("outputs/cvae/mnist/samples.png").stat().st_mtime_ns == before


@pytest.mark.slow
def test_curves_for_tensorboard_go_on(script, start):
    assert script("--tensorboard") == 0
    before = len([*(OUTPUTS / "tensorboard").iterdir()])
    assert script("--load_weights", "--num_epochs", "3") == 0
    assert len([*(OUTPUTS / "tensorboard").iterdir()]) > before
    assert script("--load_weights", "--num_epochs", "4", "--tensorboard", "false") == 0
    assert read_header(CHECKPOINT)["config"]["tensorboard"] is False


@pytest.mark.parametrize("damage", [None, {"log_p_x": "a"}, {"log_p_x": 1.0, "log_p_x_standard_error": "b"}, [], 3])
def test_metrics_of_another_kind_do_not_spoil_a_comparison(script, start, capsys, damage):
    start()
    content = metrics() | {"test": damage} if damage is not None else []
    (OUTPUTS / "metrics.json").write_text(json.dumps(content))
    assert script("--compare", "vae/mnist", only=True) == 0
    assert "picture and table" in capsys.readouterr().out


def test_figures_do_not_go_to_the_outputs_of_another_run_of_the_name(script, start, trained, capsys):
    start()
    before = (OUTPUTS / "metrics.json").read_bytes()
    shutil.copytree(trained("--seed", "1") / CHECKPOINTS, "other/vae/mnist")
    checkpoint = "other/vae/mnist/vae.weights.h5"
    for verb in ("--evaluate", "--sample"):
        assert script(verb, "--checkpoint", checkpoint, only=True) == 1
        assert f"{OUTPUTS} has the results of another run than {checkpoint}" in capsys.readouterr().err
    assert (OUTPUTS / "metrics.json").read_bytes() == before
    assert script("--evaluate", "--checkpoint", checkpoint, "--run_name", "mine", "--max_examples", "9", only=True) == 0
    assert metrics(OUTPUTS.with_name("mine"))["seed"] == 1


def test_what_stands_in_the_place_of_an_earlier_run_is_replaced_whatever_it_is(tmp_path):
    folders = Folders("vae", tmp_path / "c/vae/a", tmp_path / "o/vae/a")
    filled(tmp_path / "elsewhere", "work")
    for folder in folders.both:
        filled(folder, "work", "second")
    previous(folders.checkpoints).symlink_to(tmp_path / "elsewhere")
    previous(folders.outputs).write_text("a file")
    set_aside(folders)
    assert all((previous(folder) / "work").read_text() == "second" for folder in folders.both)
    assert (tmp_path / "elsewhere/work").read_text() == "x", "what a link leads to is not touched"


def test_unfinished_runs_leave_what_others_made_in_their_outputs(tmp_path, monkeypatch):
    folders = Folders("vae", tmp_path / "c/vae/a", tmp_path / "o/vae/a")
    filled(previous(folders.checkpoints), "vae.weights.h5")
    filled(folders.checkpoints, "vae.weights.h5")
    filled(folders.outputs, "samples.npz")
    monkeypatch.setattr("app.folders.is_in_first_epoch", lambda checkpoint: True)
    set_aside(folders)
    assert (previous(folders.outputs) / "samples.npz").exists()
