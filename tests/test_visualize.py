"""Arrays -> pictures: the same whatever the user's matplotlib says, laid out once, readable."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from matplotlib.image import imread
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox

import visualize


def history(num_epochs):
    return [
        {"epoch": epoch + 1, **{f"{split}_elbo": -100.0 + epoch for split in ("train", "test")}}
        for epoch in range(num_epochs)
    ]


def draw_all(folder):
    """A picture of every kind, with a caption, by its name."""
    rng = np.random.default_rng(0)
    points, classes, names = rng.normal(size=(40, 2)), np.arange(40) % 2, ("_first $1$", "κ")
    above = {"title": "a title", "caption": "run vae/x, dataset x"}
    labels = {"row_labels": ["a", "b"], "column_labels": ["c", "d", "e"]}
    visualize.save_image_grid(f"{folder}/grid.png", rng.random((2, 3, 8, 8, 1)), **labels, **above)
    visualize.save_latent_space(f"{folder}/space.png", points, classes, names, axis_labels=("z1", "z2"), **above)
    visualize.save_points(f"{folder}/points.png", {"one": (points, classes), "two": (points, None)}, names, **above)
    visualize.save_links(f"{folder}/links.png", points, points + 0.1, classes, names, **above)
    visualize.save_curves(f"{folder}/curves.png", {"one": (points, {"C1": points[None]})}, caption=above["caption"])
    visualize.save_history(f"{folder}/history.png", history(3), **above)
    scores = {"a": points[:, 0], "b": points[:, 1]}
    visualize.save_histograms(f"{folder}/histograms.png", scores, axis_label="nats", **above)
    run = {"epoch": [1, 2], "elbo": [-60.0, -50.0], "rate": [5.0, 9.0], "distortion": [55.0, 41.0]}
    comparison = {"vae/a": run}, ["run"], [["vae/a"]], "a note"
    visualize.save_comparison(f"{folder}/comparison.png", *comparison, caption=above["caption"])


@pytest.mark.slow
def test_pictures_are_the_same_whatever_the_users_matplotlib_says(tmp_path):
    """A backend that is not installed, as Jupyter exports it, and settings that would fail or change the look."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    settings = "text.usetex: True\nsavefig.dpi: 20\nfont.size: 30\nfigure.autolayout: True\nsavefig.format: pdf\n"
    (tmp_path / "matplotlibrc").write_text(settings)
    code = (
        "import os, sys; sys.path[:0] = sys.argv[2:]; from sources.quiet import import_tensorflow;"
        "import_tensorflow();"  # Keras imports matplotlib too
        "import matplotlib, test_visualize;"
        "test_visualize.draw_all(sys.argv[1]); assert matplotlib.rcParams['font.size'] == 30;"
        "assert os.environ['MPLBACKEND'] == 'module://not_installed'"
    )
    environment = {"MPLBACKEND": "module://not_installed", "MATPLOTLIBRC": str(tmp_path)}
    command = [sys.executable, "-c", code, str(theirs), str(REPOSITORY), str(REPOSITORY / "tests")]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    draw_all(ours)
    names = sorted(path.name for path in ours.iterdir())
    assert len(names) == 8
    for name in names:
        np.testing.assert_array_equal(imread(theirs / name), imread(ours / name), err_msg=name)


def test_each_picture_is_laid_out_once_and_has_its_caption(drawn, tmp_path, monkeypatch):
    laid_out = []
    execute = ConstrainedLayoutEngine.execute
    monkeypatch.setattr(
        ConstrainedLayoutEngine, "execute", lambda self, figure: laid_out.append(figure) or execute(self, figure)
    )
    draw_all(tmp_path)
    assert len(laid_out) == len({id(figure) for figure in laid_out}) == 7, "all but the grid"
    assert len(drawn) == 8
    for figure in drawn.values():
        assert [text.get_text() for text in figure.texts].count("run vae/x, dataset x") == 1


def test_nothing_that_is_drawn_is_cut_off(tmp_path):
    """Labels, legend and caption lie outside of the axes: a white border is left on all four sides."""
    draw_all(tmp_path)
    for path in tmp_path.iterdir():
        dark = np.any(imread(path)[..., :3] < 0.9, axis=-1)
        assert dark.any()
        border = np.concatenate([dark[:3].ravel(), dark[-3:].ravel(), dark[:, :3].ravel(), dark[:, -3:].ravel()])
        assert not border.any(), path.name


def test_a_figure_that_early_epochs_lack_is_drawn_from_where_it_is_there(drawn, tmp_path):
    rows = history(3)
    rows[-1]["test_error"] = rows[-2]["test_error"] = 0.01
    rows[-1]["test_rate"] = 3.0
    visualize.save_history(tmp_path / "history.png", rows, title="Training")
    elbo, error, rate, empty = drawn["history.png"].axes
    assert [len(line.get_xdata()) for line in elbo.lines] == [3, 3]
    assert list(error.lines[0].get_xdata()) == [2, 3]
    assert list(error.lines[0].get_ydata()) == [1.0, 1.0]
    assert error.get_ylabel() == "% of examples"
    train, test = (line.get_color() for line in elbo.lines)
    assert error.lines[0].get_color() == rate.lines[0].get_color() == test != train
    assert rate.axison
    assert not empty.axison, "no frame where nothing is drawn"


@pytest.mark.parametrize(("num_epochs", "expected"), [(1, {1.0}), (3, {1.0, 2.0, 3.0})])
def test_ticks_of_epochs_are_whole_numbers(drawn, tmp_path, num_epochs, expected):
    visualize.save_history(tmp_path / "history.png", history(num_epochs), title="Training")
    axis = drawn["history.png"].axes[0].xaxis
    low, high = axis.get_view_interval()
    assert {tick for tick in axis.get_ticklocs() if low <= tick <= high} == expected


def test_names_are_moved_apart_within_the_frame():
    rng = np.random.default_rng(0)
    frame = Bbox([[0, 0], [600, 500]])
    sizes = np.stack([rng.uniform(20, 150, 10), np.full(10, 20)], axis=1)
    for spread in (0, 5, 100):
        centres = np.array([300, 250]) + rng.normal(size=(10, 2), scale=spread)
        moved = visualize.move_apart(centres, sizes, frame)
        apart = np.abs(moved[:, None] - moved[None, :]) - (sizes[:, None] + sizes[None, :]) / 2
        assert np.all((apart >= 0).any(axis=-1) | np.eye(10, dtype=bool))
        assert np.all((moved - sizes / 2 >= 0) & (moved + sizes / 2 <= [600, 500]))
    far = np.array([[100.0, 100.0], [100.0, 200.0], [400.0, 100.0]])
    np.testing.assert_allclose(visualize.move_apart(far, sizes[:3], frame), far, atol=0.01)


def test_no_name_covers_another_where_all_classes_lie_together(drawn, tmp_path):
    codes, classes = np.random.default_rng(0).normal(size=(300, 2)), np.arange(300) % 6
    names = ["T-shirt/top", "Trouser", "Pullover", "Ankle boot", "8", "9"]
    visualize.save_latent_space(tmp_path / "space.png", codes, classes, names, title="Codes", axis_labels=("z1", "z2"))
    texts = [text for text in drawn["space.png"].axes[0].texts if text.get_text() in names]
    assert len(texts) == 6
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_comparison_shows_short_runs_whole_and_what_is_not_comparable(drawn, tmp_path):
    short = {"epoch": [1, 2], "elbo": [-60.0, -50.0], "rate": [5.0, 9.0], "distortion": [55.0, 41.0]}
    long = {name: [values[0], *20 * [values[1]]] for name, values in short.items()}
    for run, is_whole in ((short, True), (long, False)):
        visualize.save_comparison(tmp_path / "c.png", {"vae/a": run}, ["run"], [["vae/a"]], "Not comparable: split")
        figure = drawn["c.png"]
        bottom, top = figure.axes[1].get_ylim()
        assert top > -50
        assert (bottom < -60) == is_whole
        assert figure.get_supxlabel() == "Not comparable: split"
