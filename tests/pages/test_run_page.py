"""report.html: its numbers are those of metrics.json, and it needs and tells nothing else."""

import html
import io
import math
import pathlib
import re
import shlex

import numpy as np
import pytest
from conftest import metrics
from PIL import Image

from app import page
from app.flags import parse_flags
from app.run import defaults_for
from app.settings import ROWS, names
from data import load_dataset
from pages import report
from pages.charts import Curve, chart, ticks

PAGE = pathlib.Path("outputs/vae/mnist/report.html")
FIGURE = re.compile(r'data-figure="([^"]+)">([^<]*)<')


def value_at(figures: dict, key: str):
    for name in key.split("."):
        figures = figures[name]
    return figures


def assert_numbers_agree(text: str, figures: dict) -> int:
    found = FIGURE.findall(text)
    for key, shown in found:
        value, _, error = shown.replace(",", "").partition(" ± ")
        digits = len(value.partition(".")[2])
        assert value == f"{value_at(figures, key):.{digits}f}"
        if error:
            assert error == f"{value_at(figures, f'{key}_standard_error'):.{digits}f}"
    return len(found)


def test_every_number_is_that_of_metrics_json(start, script):
    start("--model", "cvae")
    flags = ["--evaluate", "--model", "cvae", "--num_importance_samples", 3, "--ood_dataset", "noise"]
    assert script(*flags) == 0
    folder = pathlib.Path("outputs/cvae/mnist")
    figures, text = metrics(folder), (folder / "report.html").read_text("utf-8")
    assert assert_numbers_agree(text, figures) == 11
    assert {key for key, _ in FIGURE.findall(text)} >= {"test.elbo", "test.log_p_x", "test.latents.active_units"}
    for number in ("60 test examples", "from 3 importance samples", "seed 0", "binarize none"):
        assert number in text
    assert "lower bound on log p(x|y)" in text
    for name, value in figures["versions"].items():
        assert f"{name} {value}" in text
    assert text.count('<polyline class="curve"') == 8
    assert text.count('<g class="epoch"') == 2 * 4
    script(*flags)
    assert (folder / "report.html").read_text("utf-8") == text, "the same run gives the same bytes"


@pytest.mark.slow
def test_the_page_needs_no_other_file_and_names_no_folder(start, idx_folder, tmp_path, real_pictures, script):
    assert script("--num_epochs", 1) == 0
    text = PAGE.read_text("utf-8")
    assert "://" not in text.replace("http://www.w3.org", "")
    for attribute in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert attribute.startswith("data:")
    assert "url(" not in text
    assert "<script" not in text
    for private in (str(tmp_path), str(idx_folder), str(pathlib.Path.home()) + "/"):
        assert private not in text
    assert text.count("<img ") == len([*PAGE.parent.glob("[!e]*.png")]) - 1, "all but history.png"
    assert PAGE.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    "flags",
    [
        [],
        pytest.param(["--model", "cvae", "--latent_size", "5", "--binarize", "threshold"], marks=pytest.mark.slow),
        ["--beta", "0.5", "--likelihood", "logistic", "--run_name", "an odd name"],
        pytest.param(
            ["--model", "vlae", "--network", "mlp", "--window", "0", "--unconditional"], marks=pytest.mark.slow
        ),
    ],
)
def test_the_command_makes_such_a_run(start, idx_folder, flags):
    start(*flags)
    (folder,) = pathlib.Path("outputs").glob("*/[!.]*")
    commands = [
        html.unescape(line) for line in re.findall(r"<pre>(.*)</pre>", (folder / "report.html").read_text("utf-8"))
    ]
    given = [parse_flags(shlex.split(command)[2:]) for command in commands]
    values = defaults_for(given[0], load_dataset("mnist", idx_folder))
    figures = metrics(folder)
    compared = [name for name in names(kept=True, reported=True) if name in figures]
    assert len(compared) > 15
    for name in compared:
        value = values[name]
        assert figures[name] == (list(value) if isinstance(value, tuple) else value), name
    assert given[1]["load_weights"]
    assert given[2]["evaluate"]
    assert given[2]["checkpoint"] == f"model_ckpts/{folder.parent.name}/{folder.name}/{folder.parent.name}.weights.h5"
    assert given[-1]["sample"]
    assert len(given) == 4, "there is no earlier run to compare with"
    assert all(ROWS[name] for name in given[0])


METRICS = {
    "model": "vae", "dataset": "mnist", "data_shape": [28, 28, 1], "fallback_from": None, "run_name": "mnist",
    "epochs": 12, "seed": 0, "binarize": "dynamic", "likelihood": "bernoulli", "latent_size": 5, "parameters": 10,
    "train_examples": 100, "train_seconds": 6.0, "versions": {"python": "3"}, "machine": "m", "optimizer": "adam",
    "test": {"num_examples": 10, "seed": 0, "elbo": -5.0, "elbo_standard_error": 0.1, "rate": 1.0, "distortion": 4.0,
             "latents": {"active_units": 3}},
}  # fmt: skip


def history(*elbos: float) -> list[dict[str, float]]:
    return [{"epoch": i + 1, "train_elbo": -1.0, "test_elbo": elbo} for i, elbo in enumerate(elbos)]


def made(metrics=METRICS, rows=(), pictures=None) -> str:
    return report.run_page(metrics, rows, pictures or {}, ("seed",), {"make": "python assignment.py"})


def warnings_of(text: str) -> list[str]:
    return re.findall(r'<p class="warning" role="note">(.*)</p>', text)


def test_warnings_stand_where_they_apply():
    assert warnings_of(made(rows=history(-9, -6, -5.05, -5.1))) == []
    (overfit,) = warnings_of(made(rows=history(-9, -4, -5)))
    assert overfit.startswith("Overfitting: the test ELBO was highest after epoch 2 (-4.00) and has fallen to -5.00")
    (fallback,) = warnings_of(made(METRICS | {"dataset": "mnist_sample", "fallback_from": "mnist"}))
    assert "mnist was out of reach, so these are figures of mnist_sample" in fallback
    (grey,) = warnings_of(made(METRICS | {"binarize": "none"}))
    assert grey.startswith("Grey pixels")
    collapsed = METRICS["test"] | {"latents": {"active_units": 0}}
    (collapse,) = warnings_of(made(METRICS | {"test": collapsed}))
    assert collapse.startswith("Posterior collapse")
    validation = {**METRICS, "validation": METRICS["test"]}
    del validation["test"]
    assert warnings_of(made(validation))[0].startswith("Validation figures are for choosing settings")


def test_names_are_escaped():
    odd = '<script>alert("&")</script>'
    text = made(METRICS | {"run_name": odd, "dataset": odd, "machine": odd}, pictures={f"ood_{odd}.png": png(4, 4)})
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5


def png(height: int, width: int, seed: int = 0) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def test_large_pictures_are_made_smaller():
    pictures = {"samples.png": png(900, 900), "latent_space.png": png(900, 900, 1)}
    text = made(pictures=pictures)
    assert sum(map(len, pictures.values())) > 4_000_000
    assert len(text) < 1_000_000
    assert text.index("samples.png") < text.index("latent_space.png")


def test_a_page_that_cannot_be_made_fails_no_run(script, monkeypatch, capsys):
    monkeypatch.setattr(report, "run_page", lambda *args: 1 / 0)
    assert script("--num_epochs", 1) == 0
    assert "NOTE: no report.html in outputs/vae/mnist: division by zero" in capsys.readouterr().out
    assert metrics()["epochs"] == 1


def test_runs_are_compared_on_a_page(trained_run, script, monkeypatch):
    monkeypatch.chdir(trained_run)
    assert script("--compare", "vae/mnist", "cvae/mnist", only=True) == 0
    text = pathlib.Path("outputs/comparison/report.html").read_text("utf-8")
    assert "Not comparable with one another: bound on is log p(x) and log p(x|y)." in text
    for model in ("vae", "cvae"):
        assert f"<b>{model}/mnist</b>" in text
        assert f"{metrics(f'outputs/{model}/mnist')['test']['elbo']:.2f}" in text
    assert text.count("<polyline") == 3 * 2


def test_charts_hold_their_curves():
    curves = [Curve("a", [1, 2, 3, 4], [5.0, math.nan, -1.0, 2.0]), Curve("b", [2, 4], [0.5, 0.5])]
    drawn = chart(curves, caption="c")
    for curve in drawn["curves"]:
        for point in curve["points"].split():
            x, y = map(float, point.split(","))
            assert drawn["left"] < x < drawn["width"]
            assert 0 < y < drawn["bottom"]
    assert [spot["text"] for spot in drawn["spots"]][3] == "epoch 4: a 2.00, b 0.50"
    assert len(drawn["curves"][0]["points"].split()) == 3, "what is not finite is left out"
    for low, high in ((0, 1), (-98.7, -98.1), (3, 12345), (-1e-6, 1e-6)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 8
        assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    flat = chart([Curve("a", [1], [7.0])], caption="one epoch")
    assert len(flat["spots"]) == 1
    assert page.PAGE == "report.html"


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1400])
def test_the_report_in_a_browser(script, start, open_page, width):
    start()
    assert script("--evaluate", "--num_importance_samples", 2) == 0
    page = open_page(PAGE, width, runs=False)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert len(page.screenshot(full_page=True)) > 20_000
    spot = page.locator("svg .epoch").nth(1)
    assert spot.locator("text").evaluate("(text) => getComputedStyle(text).opacity") == "0"
    spot.focus()
    assert spot.locator("text").evaluate("(text) => getComputedStyle(text).opacity") == "1"
    assert spot.locator("text").text_content().startswith("epoch 2: train ")
