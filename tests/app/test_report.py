"""The whole script where it evaluates and compares: figures, warnings, pictures, TensorBoard."""

import csv
import importlib.util
import os
import re

import numpy as np
import pytest
from conftest import CHECKPOINT, metrics, run_process

from app import records, report

CVAE_CHECKPOINT = "model_ckpts/cvae/mnist/cvae.weights.h5"


@pytest.fixture
def evaluate(script, trained_run):
    """Evaluate the trained VAE, or CVAE, with these flags."""

    def run(*flags, checkpoint=CHECKPOINT):
        return script("--evaluate", "--checkpoint", trained_run / checkpoint, *flags, only=True)

    return run


def printed_rows(capsys):
    """The figures of the table on the screen, by the names of its rows."""
    rows = [re.split(" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    return {row[0]: row[1] for row in rows}


BOUNDS = {"num_examples": 1000, "seed": 3, "elbo": -98.351, "elbo_standard_error": 0.254}
TERMS = {"rate": 25.0, "distortion": 73.35}
BITS = {"bits_per_dim": 0.18098}


@pytest.mark.parametrize(
    ("figures", "conditions", "lines"),
    [
        (
            BOUNDS | TERMS | BITS,
            {"split": "test", "binarize": "dynamic", "bound_on": "log p(x)"},
            [
                "test figures of 1,000 examples, in nats per example, ± standard error over examples "
                "(binarize dynamic, seed 3)",
                "  ELBO                          -98.35 ± 0.25    bound on log p(x), one posterior sample",
                "    in bits/dim                 0.1810",
                "  rate                           25.00",
                "  distortion                     73.35",
            ],
        ),
        (
            {"num_examples": 1, "seed": 0, "elbo": -3.0, "rate": 1.0, "distortion": 2.0},
            {"split": "validation", "binarize": None, "bound_on": "log p(x|y)"},
            [
                "validation figures of 1 example, in nats (seed 0)",
                "  ELBO                           -3.00           bound on log p(x|y), one posterior sample",
                "  rate                            1.00",
                "  distortion                      2.00",
            ],
        ),
    ],
)
def test_bounds_as_they_are_printed(capsys, figures, conditions, lines):
    report.print_bounds(figures, **conditions)
    assert capsys.readouterr().out.splitlines() == lines


def test_importance_weighted_bounds_as_they_are_printed(capsys):
    figures = {"num_importance_samples": 5000, "log_p_x_given_y": -96.0, "log_p_x_given_y_standard_error": 0.5}
    report.print_log_likelihoods(figures)
    row = "  log p(x|y)                    -96.00 ± 0.50    bound, K = 5,000 importance samples"
    note = "NOTE: no log p(x): with several labels at a time there is no sum over classes"
    assert capsys.readouterr().out.splitlines() == [note, row]
    report.print_log_likelihoods(figures | {"log_p_x": -97.0, "log_p_x_bits_per_dim": 0.2})
    assert capsys.readouterr().out.splitlines() == [
        row,
        "  log p(x)                      -97.00           bound, K = 5,000 importance samples",
        "    in bits/dim                 0.2000",
    ]


@pytest.mark.parametrize(("active", "num", "warns"), [(0, 100, True), (2, 100, False), (0, 1, False)])
def test_a_collapse_is_warned_of_where_there_are_examples_to_vary_over(capsys, active, num, warns):
    figures = {"active_units": active, "rate_per_latent": [0.0, 1.0], "num_examples": num}
    for has_window, takes_features in ((False, False), (True, False), (False, True)):
        report.print_latents(figures, has_window=has_window, takes_features=takes_features)
        out = capsys.readouterr().out
        assert ("WARNING: posterior collapse" in out) == warns
        assert ("--window" in out) == (warns and has_window)
        assert ("--features" in out) == (warns and takes_features)


def test_an_evaluation_names_every_figure_with_its_conditions(evaluate, capsys):
    assert evaluate("--num_importance_samples", 20, checkpoint=CVAE_CHECKPOINT) == 0
    found = metrics("outputs/cvae/mnist")["test"]
    for figures in (found, found["latents"], found["probes"]):
        assert (figures["num_examples"], figures["seed"]) == (60, 0)
    assert found["num_importance_samples"] == 20
    assert found["elbo"] - 0.1 < found["log_p_x_given_y"] < found["elbo"] + 5, "but for the noise of one sample, above"
    for name in ("elbo", "log_p_x", "log_p_x_given_y"):
        assert 0 < found[f"{name}_standard_error"] < 5
    assert len(found["latents"]["rate_per_latent"]) == 3
    assert sum(found["latents"]["rate_per_latent"]) == pytest.approx(found["rate"], rel=1e-4)
    assert found["probes"]["num_training_examples"] == 200
    assert found["probes"]["num_samples"] == 1000
    assert found["probes"]["classifier_accuracy"] > 0.9, "bars are easily told"
    probes, rows = found["probes"], printed_rows(capsys)
    for row, figure in (
        ("ELBO", f"{found['elbo']:.2f} ± {found['elbo_standard_error']:.2f}"),
        ("active units", str(found["latents"]["active_units"])),
        ("aggregate posterior KL", f"{found['latents']['aggregate_posterior_kl']:.2f}"),
        ("linear probe", f"{100 * probes['linear_accuracy']:.2f}%"),
        ("10 nearest neighbours", f"{100 * probes['neighbours_accuracy']:.2f}%"),
        ("samples of their class", f"{100 * probes['sample_agreement']:.2f}%"),
        ("log p(x|y)", f"{found['log_p_x_given_y']:.2f} ± {found['log_p_x_given_y_standard_error']:.2f}"),
        ("log p(x)", f"{found['log_p_x']:.2f} ± {found['log_p_x_standard_error']:.2f}"),
    ):
        assert rows[row] == figure


@pytest.mark.slow
def test_an_evaluation_repeats_itself_whatever_the_batch_size(evaluate):
    found = []
    for flags in ([], ["--batch_size", 7], ["--seed", 1]):
        assert evaluate("--num_importance_samples", 5, *flags) == 0
        found.append(metrics()["test"])
    assert found[0] == found[1]
    assert found[0]["log_p_x"] != found[2]["log_p_x"]
    assert found[0]["log_p_x"] == pytest.approx(found[2]["log_p_x"], abs=1)


def test_a_hundred_importance_samples_unless_told_otherwise(evaluate):
    assert evaluate("--max_examples", 10) == 0
    found = metrics()["test"]
    assert found["num_examples"] == found["latents"]["num_examples"] == 10
    assert found["num_importance_samples"] == 100
    assert evaluate("--num_importance_samples", 0) == 0
    assert "log_p_x" not in metrics()["test"]


@pytest.mark.slow
def test_a_collapsed_model_is_told_what_to_try(script, capsys):
    assert script("--beta", "1e4", "--num_epochs", "15", "--lr", "1e-2") == 0
    assert metrics()["test"]["latents"]["active_units"] == 0
    out = capsys.readouterr().out
    assert "WARNING: posterior collapse" in out
    assert "--warmup_epochs 5" in out


# Pictures


def test_pictures_name_the_run_the_dataset_and_the_part_of_it(evaluate, drawn):
    assert evaluate("--num_importance_samples", 0, "--run_name", "mine", checkpoint=CVAE_CHECKPOINT) == 0
    assert len(drawn) == 5
    for figure in drawn.values():
        assert figure.texts[0].get_text() == "run cvae/mine, dataset mnist"
        assert "test example" in figure.axes[0].get_title()
    assert "through the prior of every class" in drawn["style_transfer.png"].axes[0].get_title()


# Out of distribution


@pytest.mark.parametrize("checkpoint", [CHECKPOINT, pytest.param(CVAE_CHECKPOINT, marks=pytest.mark.slow)])
def test_noise_is_told_from_the_test_set(evaluate, tmp_path, checkpoint, real_pictures):
    assert evaluate("--ood_dataset", "noise", "--num_importance_samples", 2, checkpoint=checkpoint) == 0
    folder = tmp_path / "outputs" / checkpoint.split("/")[1] / "mnist"
    found = metrics(folder)["test"]
    noise = found["out_of_distribution"]["noise"]
    assert noise["auroc"] == noise["average_precision"] == 1.0
    assert noise["log_p_x"] == pytest.approx(found["log_p_x"], rel=1e-4)
    assert noise["log_p_x_outside"] < noise["log_p_x"] - 10
    assert (noise["num_examples"], noise["num_examples_outside"], noise["num_importance_samples"]) == (60, 60, 2)
    assert (folder / "ood_noise.png").stat().st_size > 5000


def test_other_images_are_brought_to_the_size_of_the_models(evaluate, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "colours.npz", images=rng.integers(0, 256, (40, 9, 7, 3), dtype=np.uint8))
    assert evaluate("--ood_dataset", tmp_path / "colours.npz", "--num_importance_samples", 0) == 0
    found = metrics()["test"]["out_of_distribution"]["colours"]
    assert found["num_examples_outside"] == 4
    assert found["num_importance_samples"] == 1


def test_others_that_do_not_suit_are_refused_first(evaluate, capsys):
    assert evaluate("--ood_dataset", "moons") == 1
    told = capsys.readouterr()
    assert "moons has points, the model is of the other kind" in told.err
    assert told.err.count("\n") == 1
    assert "ELBO" not in told.out


# Comparison


@pytest.fixture(scope="module")
def binarized(tmp_path_factory, trained_run, idx_folder):
    """Another VAE in the same folders."""
    import assignment

    flags = ["--data_dir", idx_folder, "--dataset", "mnist", "--num_epochs", 3, "--batch_size", 32, "--hidden_dims", 8]
    flags += ["--binarize", "dynamic", "--run_name", "binary", "--checkpoint_dir", trained_run / "model_ckpts"]
    assert assignment.main(list(map(str, [*flags, "--output_dir", trained_run / "outputs"]))) == 0
    return trained_run


def test_a_history_whose_early_epochs_lack_a_figure_is_written_and_read(tmp_path):
    """As of a run of M2 that an older version of the program began, without the error."""
    rows = [{"epoch": 1, "test_elbo": -2.5}, {"epoch": 2, "test_elbo": -2.0, "test_error": 0.25}]
    records.write_history(tmp_path, rows)
    first, second = records.read_history(tmp_path)
    assert first == {"epoch": "1", "test_elbo": "-2.5"}
    assert second == {"epoch": "2", "test_elbo": "-2.0", "test_error": "0.25"}


def test_runs_are_compared_side_by_side_without_tensorflow(binarized, tmp_path):
    runs = ["vae/mnist", "vae/binary", str(binarized / CVAE_CHECKPOINT)]
    for name in ("tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} was imported')")
    done = run_process("--compare", *runs, cwd=binarized, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "NOTE: these figures are not comparable with one another: binarize is dynamic and none" in done.stdout
    assert "bound on is log p(x) and log p(x|y)" in done.stdout
    with open(binarized / "outputs/comparison/comparison.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["vae/mnist", "vae/binary", "cvae/mnist"]
    test = metrics(binarized / "outputs/vae/mnist")["test"]
    assert float(rows[0]["elbo"]) == pytest.approx(test["elbo"], rel=1e-5)
    assert rows[1]["epoch"] == "3"
    assert (binarized / "outputs/comparison/comparison.png").stat().st_size > 20_000


def test_comparable_runs_get_no_note_and_a_name_of_their_own(script, binarized, capsys):
    run = binarized / "model_ckpts/vae/binary"
    assert script("--compare", run, run / "vae.weights.h5", "--run_name", "mine", only=True) == 0
    out = capsys.readouterr().out
    assert "NOTE" not in out
    assert "picture and table: outputs/mine" in out


def test_each_figure_of_a_comparison_has_its_number_of_examples(script, tmp_path):
    assert script("--num_epochs", 1, "--num_importance_samples", 2, "--max_examples", 10) == 0
    assert script("--compare", "vae/mnist", only=True) == 0
    with open(tmp_path / "outputs/comparison/comparison.csv") as file:
        (row,) = csv.DictReader(file)
    assert (row["n"], row["K"], row["n of log p(x)"]) == ("60", "2", "10")


def test_a_run_that_is_not_there_is_named(script, capsys):
    assert script("--compare", "vae/none", only=True) == 1
    assert "--compare: vae/none is neither a checkpoint nor a run" in capsys.readouterr().err


# TensorBoard


@pytest.mark.slow
def test_curves_and_pictures_for_tensorboard(script, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the optional package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert script("--tensorboard", "--sample_and_save_frequency", 2) == 0
    assert script("--load_weights", "--num_epochs", 3, "--tensorboard", only=True) == 0
    events = EventAccumulator(str(tmp_path / "outputs/vae/mnist/tensorboard"), {"tensors": 0}).Reload()
    tags = events.Tags()["tensors"]
    assert {"elbo/train", "elbo/test", "rate/test", "samples", "reconstructions"} <= set(tags)
    assert [event.step for event in events.Tensors("elbo/test")] == [1, 2, 3]
    assert [event.step for event in events.Tensors("samples")] == [2]


def test_tensorboard_is_missed_in_one_line_before_anything_is_done(script, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "tensorboard" else find(name))
    assert script("--tensorboard") == 1
    error = capsys.readouterr().err
    assert "pip install -r requirements-tensorboard.txt" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
