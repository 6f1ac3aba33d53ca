"""--compare: which runs are found, and what stands beside what."""

import csv
import json
import math
import pathlib
import shutil

import numpy as np
import pytest

from app.compare import held_out_curves
from pages.report import comparison_page

RUN = pathlib.Path("model_ckpts/vae/mnist")


def table():
    with open("outputs/comparison/comparison.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def seeds(script, start, trained, tmp_path):
    """Runs that differ in the seed alone: vae/mnist and vae/one."""
    start()
    source = trained("--seed", "1")
    for folder in ("model_ckpts", "outputs"):
        shutil.copytree(source / folder / "vae/mnist", tmp_path / folder / "vae/one")
    return script


def test_runs_that_differ_in_the_seed_alone_have_a_mean_and_a_deviation(seeds):
    assert seeds("--compare", "vae/mnist", "vae/one", only=True) == 0
    first, second, mean, deviation = table()
    assert [first["seed"], second["seed"]] == ["0", "1"]
    elbos = [float(row["elbo"]) for row in (first, second)]
    assert float(mean["elbo"]) == pytest.approx(np.mean(elbos))
    assert float(deviation["elbo"]) == pytest.approx(np.std(elbos, ddof=1))
    assert mean["run"] == "mean of 2 seeds"
    assert mean["seed"] == ""
    assert mean["lr"] == first["lr"] == "0.001"


def test_runs_that_differ_otherwise_have_none(script, start, trained, tmp_path):
    start()
    source = trained("--seed", "1", "--lr", "1e-2")
    shutil.copytree(source / "model_ckpts/vae/mnist", tmp_path / "model_ckpts/vae/fast")
    assert script("--compare", "mnist", "fast", only=True) == 0
    assert [row["run"] for row in table()] == ["vae/mnist", "vae/fast"]


def test_a_run_is_found_by_its_name_where_only_one_model_has_it(script, trained_run, tmp_path, capsys):
    shutil.copytree(trained_run, tmp_path, dirs_exist_ok=True)
    shutil.copytree("model_ckpts/cvae/mnist", "model_ckpts/cvae/bs0")
    assert script("--compare", "bs0", only=True) == 0
    assert [row["run"] for row in table()] == ["cvae/bs0"]
    assert script("--compare", "mnist", only=True) == 1
    assert "mnist may be cvae/mnist or vae/mnist: name one" in capsys.readouterr().err
    assert script("--compare", "bs1", only=True) == 1
    assert "bs1 is neither a checkpoint nor a run" in capsys.readouterr().err


def test_runs_of_one_name_in_two_folders_are_two_rows(seeds):
    shutil.copytree("model_ckpts/vae/one", "other/vae/mnist")
    assert seeds("--compare", "model_ckpts/vae/mnist", "other/vae/mnist", only=True) == 0
    rows = table()[:2]
    assert [row["run"] for row in rows] == ["model_ckpts/vae/mnist", "other/vae/mnist"]
    assert rows[0]["elbo"] != rows[1]["elbo"]


def test_log_p_x_is_that_of_the_same_weights(seeds):
    """A run that was set aside, and a copy, have their own figures."""
    assert seeds("--evaluate", "--num_importance_samples", "2") == 0
    shutil.copytree("model_ckpts/vae/one", "other/vae/mnist")  # its name is that of the evaluated run
    assert seeds("--compare", RUN, "other/vae/mnist", only=True) == 0
    evaluated, other = table()[:2]
    with open("outputs/vae/mnist/metrics.json") as file:
        test = json.load(file)["test"]
    assert float(evaluated["log p(x)"]) == test["log_p_x"]
    assert float(evaluated["±"]) == test["log_p_x_standard_error"]
    assert other["log p(x)"] == ""


def test_the_error_is_compared_from_the_epoch_on_in_which_there_is_one():
    """Older versions of the program had none after each epoch, and other models have none."""
    terms = {"test_elbo": -3.0, "test_rate": 1.0, "test_distortion": 2.0}
    history = [{"epoch": 1, **terms}, {"epoch": 2, **terms, "test_error": 0.0116}]
    continued, other = held_out_curves(history), held_out_curves(history[:1])
    assert math.isnan(continued["error"][0])
    assert continued["error"][1] == pytest.approx(1.16)
    assert "error" not in other
    page = comparison_page(["run"], [["a"], ["b"]], {"a": other, "b": continued}, [])
    assert page.count("<polyline") == 3 * 2 + 1
    assert "held-out error, % of examples" in page
    assert "epoch 2: b 1.16" in page
    assert "nan" not in page
