"""--fill_in: images completed, from the command line."""

import pathlib
import signal

import numpy as np
import pytest
from PIL import Image

from app.fill_in import shown_places
from pictures.album import Album
from pictures.completions import MISSING, draw_completions
from trained.completion import Completer
from vae import load

FILLED = pathlib.Path("outputs/vae/mnist/fill_in")


def test_the_hidden_part_is_drawn_and_the_rest_kept(script, start, idx_folder, capsys):
    start()
    assert script("--fill_in", "mnist", "--hide", "left", "--max_examples", 6, "--num_samples", 4) == 0
    printed = capsys.readouterr().out
    assert "6 of 60 images for test" in printed
    assert f"4 completions of 6 images: {FILLED / 'mnist'}" in printed
    filled = np.load(FILLED / "mnist/fill_in_left.npz")
    images, known, completions = filled["images"], filled["known"], filled["completions"]
    from data import load_dataset

    numbers = filled["names"].astype(int)
    assert np.array_equal(images, load_dataset("mnist", str(idx_folder)).test.x[numbers])
    assert completions.shape == (6, 4, 12, 12, 1)
    assert not known[:, :, :6].any()
    assert known[:, :, 6:].all()
    assert np.array_equal(completions[:, 2, :, 6:], images[:, :, 6:] / np.float32(255))
    assert np.ptp(completions[:, :, :, :6], axis=1).max() > 1e-4, "the draws differ"
    python = load("model_ckpts/vae/mnist/vae.weights.h5").fill_in(images, known, num=4)
    assert np.array_equal(completions, python)
    assert (FILLED / "mnist/fill_in_left.png").is_file()


@pytest.mark.slow
def test_what_is_transparent_is_missing(script, start, tmp_path, capsys):
    start("--model", "cvae")
    (tmp_path / "torn").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 2), dtype=np.uint8)
    pixels[..., 1] = 255
    pixels[1, 3:5, 2:9, 1] = pixels[2, 11, 11, 1] = 0
    for number, image in enumerate(pixels):
        Image.fromarray(image, "LA").save(tmp_path / "torn" / f"{number}.png")
    flags = ["--model", "cvae", "--num_samples", 2, "--fill_in", "torn"]
    capsys.readouterr()
    assert script(*flags) == 0
    assert "NOTE: 1 image without a transparent pixel left out" in capsys.readouterr().out
    folder = pathlib.Path("outputs/cvae/mnist/fill_in/torn")
    filled = np.load(folder / "fill_in.npz")
    assert filled["names"].tolist() == ["1.png", "2.png"]
    assert np.array_equal(filled["known"], pixels[1:, ..., 1] == 255)
    assert {path.name for path in folder.iterdir()} == {"fill_in.npz", "fill_in.png"}
    assert script(*flags, "--hide", "top") == 0
    both = np.load(folder / "fill_in_top.npz")
    assert len(both["names"]) == 3
    assert not both["known"][2, 11, 11]


def test_the_transparent_images_are_found_among_many_others(script, start, tmp_path, capsys):
    start()
    (tmp_path / "many").mkdir()
    pixels = np.full((12, 12, 2), 255, np.uint8)
    for number in range(40):
        pixels[0, 0, 1] = 0 if number in (33, 37, 38) else 255
        Image.fromarray(pixels, "LA").save(tmp_path / "many" / f"{number}.png")
    assert script("--fill_in", "many", "--num_samples", 1, "--max_examples", 2) == 0
    assert np.load(FILLED / "many/fill_in.npz")["names"].tolist() == ["33.png", "37.png"]
    assert script("--score", "many", "--num_importance_samples", 0) == 0
    assert "NOTE: 3 images with transparent pixels, which are white where shown" in capsys.readouterr().out


def test_ctrl_c_leaves_earlier_completions_and_no_half_ones(script, start, monkeypatch, capsys):
    start()
    flags = ["--fill_in", "mnist", "--hide", "left", "--max_examples", 2, "--num_samples", 1]
    assert script(*flags) == 0
    files = {path: path.read_bytes() for path in (FILLED / "mnist").iterdir()}
    in_blocks = Completer.in_blocks

    def stopping(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return in_blocks(*args, **options)

    monkeypatch.setattr(Completer, "in_blocks", stopping)
    assert script(*flags, "--seed", 1) == 130
    assert capsys.readouterr().err.strip().endswith("assignment.py: stopped")
    assert {path: path.read_bytes() for path in (FILLED / "mnist").iterdir()} == files


def test_parts_are_halves_a_quarter_or_a_share_of_the_pixels():
    shape, places = (3, 8, 8), shown_places
    for one, other in (("left", "right"), ("top", "bottom")):
        assert np.array_equal(places(one, shape, 0), ~places(other, shape, 0))
        assert places(one, shape, 0).mean() == 0.5
    assert places("top", shape, 0)[:, 4:].all()
    assert places("right", shape, 0)[:, :, :4].all()
    hidden = ~places("centre", shape, 0)
    assert hidden[:, 2:6, 2:6].all()
    assert hidden.mean() == 0.25
    shown = places("0.3", (40, 28, 28), 0)
    assert shown.mean() == pytest.approx(0.7, abs=0.01)
    assert (shown[0] != shown[1]).any()
    assert np.array_equal(shown, places("0.3", (40, 28, 28), 0))
    assert (shown != places("0.3", (40, 28, 28), 1)).any()


@pytest.mark.slow
def test_a_model_of_several_labels_at_a_time_gets_those_of_the_data(script):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 12, 12), dtype=np.uint8), rng.integers(0, 2, (40, 3))
    np.savez("several.npz", images=images, labels=labels)
    of_run = ["--model", "cvae", "--dataset", "several.npz"]
    assert script(*of_run, "--prior", "standard", "--hidden_dims", 8, "--num_epochs", 1, "--batch_size", 8) == 0
    assert script(*of_run, "--fill_in", "several.npz", "--hide", "top", "--num_samples", 1, only=True) == 0
    filled = np.load("outputs/cvae/several/fill_in/several/fill_in_top.npz")
    rows = filled["names"].astype(int)
    model = load("model_ckpts/cvae/several/cvae.weights.h5")
    python = model.fill_in(filled["images"], filled["known"], labels[rows])
    assert np.array_equal(filled["completions"], python)
    assert (python != model.fill_in(filled["images"], filled["known"], 1 - labels[rows])).any()


def test_the_picture_marks_what_was_hidden(tmp_path, drawn):
    images = np.full((25, 4, 4, 1), 51, np.uint8)
    known = np.ones((25, 4, 4), bool)
    known[:, 1, 1] = False
    completions = np.full((25, 12, 4, 4, 1), 0.2, np.float32)
    draw_completions(Album(tmp_path), "fill_in.png", images, known, completions, ["a"] * 20)
    (axes,) = drawn["fill_in.png"].axes
    mosaic = axes.images[0].get_array()
    assert mosaic.shape == (20 * 6 - 2, 12 * 6 - 2, 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["original", "shown", *map(str, range(1, 11))]
    assert mosaic[1, 1].tolist() == pytest.approx([0.2] * 3)
    assert mosaic[1, 7].tolist() == pytest.approx(list(MISSING))
