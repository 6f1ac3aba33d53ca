"""--encode and --score: a trained model put to use on data, from the command line."""

import csv
import io
import os
import pathlib
import shutil

import numpy as np
import pytest
from conftest import metrics
from PIL import Image

from app import values
from evaluation.scores import separations
from pictures.scores import NUM_SHOWN, Extremes, draw_extremes
from sources.streams import Block
from vae import load

ENCODED, SCORED = pathlib.Path("outputs/vae/mnist/encode"), pathlib.Path("outputs/vae/mnist/score")


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks and batches of 20 examples, so that the 60 test images are several."""
    import app.on_data
    import sources.batches
    import trained.conditions

    for module in (app.on_data, sources.batches, trained.conditions):
        monkeypatch.setattr(module, "TEST_BATCH_SIZE", 20)


@pytest.fixture
def pets(tmp_path):
    """A folder of colour images of another size than the model's, of two classes that it does not know."""
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "pets" / ("cats", "dogs")[number // 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pets"


def table(folder):
    """The columns of scores.csv; numbers as floats."""
    with open(folder / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = ("name", "class", "most_probable_class")
    return {name: [row[name] if name in texts else float(row[name]) for row in rows] for name in rows[0]}


def test_encode_writes_the_codes_that_python_gives(script, start, small_blocks):
    start()
    assert script("--encode", "mnist") == 0
    codes = np.load(ENCODED / "mnist/codes.npz")
    assert codes["mean"].shape == codes["logvar"].shape == (60, 3)
    assert codes["labels"].tolist() == [number % 10 for number in range(60)]
    assert codes["class_names"].tolist() == list("0123456789")
    assert codes["names"].tolist() == [str(number) for number in range(60)]
    assert (ENCODED / "mnist/codes.png").is_file()
    from data import load_dataset

    data_dir = metrics()["dataset_source"].removeprefix("files in ")
    mean, logvar = load("model_ckpts/vae/mnist/vae.weights.h5").encode(load_dataset("mnist", data_dir).test.x)
    assert np.array_equal(codes["mean"], mean)
    assert np.array_equal(codes["logvar"], logvar)


@pytest.mark.parametrize("model", [pytest.param("vae", marks=pytest.mark.slow), "cvae"])
def test_the_scores_have_the_means_that_evaluate_reports(script, start, small_blocks, capsys, model):
    start("--model", model)
    flags = ["--model", model, "--num_importance_samples", 9]
    assert script(*flags, "--evaluate") == 0
    figures = metrics(f"outputs/{model}/mnist")["test"]
    capsys.readouterr()
    assert script(*flags, "--score", "mnist") == 0
    printed = capsys.readouterr().out
    scores = table(pathlib.Path(f"outputs/{model}/mnist/score/mnist"))
    conditional = ["log_p_x_given_y"] if model == "cvae" else []
    assert list(scores) == ["name", "class", "elbo", "rate", "distortion", "log_p_x", *conditional, "ratio_to_png"]
    assert scores["class"] == [str(number % 10) for number in range(60)]
    for name in list(scores)[2:-1]:
        assert np.mean(scores[name]) == pytest.approx(figures[name], rel=1e-6), name
        assert f"{figures[name]:,.2f}" in printed, name


def test_max_examples_chooses_as_evaluate_does(script, start):
    start()
    few = ["--max_examples", 7, "--num_importance_samples", 0]
    assert script("--evaluate", *few) == 0
    assert script("--score", "mnist", *few, "--to", "few") == 0
    scores = table(pathlib.Path("few"))
    assert list(scores) == ["name", "class", "elbo", "rate", "distortion", "ratio_to_png"]
    assert len(scores["name"]) == 7
    assert np.mean(scores["elbo"]) == pytest.approx(metrics()["test"]["elbo"], rel=1e-6)


def test_bits_where_p_x_is_a_probability_of_the_pixels(script, start):
    start("--binarize", "threshold")
    assert script("--score", "mnist", "--num_importance_samples", 0, "--split", "train", "--max_examples", 5) == 0
    scores = table(SCORED / "mnist")
    assert scores["bits_per_dim"] == pytest.approx(-np.array(scores["elbo"]) / (144 * np.log(2)))


def test_a_folder_of_other_images_is_made_to_fit_and_it_is_said(script, start, pets, capsys):
    start()
    (pets / "cats" / "0.png").write_bytes(b"nothing")
    assert script("--score", pets, "--num_importance_samples", 3) == 0
    printed = capsys.readouterr().out
    for note in ("NOTE: resized from 16x16 to 12x12\n", "NOTE: made grey\n", "NOTE: skipped 1 of 6 images"):
        assert note in printed
    scores = table(SCORED / "pets")
    assert scores["name"] == ["cats/1.png", "cats/2.png", "dogs/3.png", "dogs/4.png", "dogs/5.png"]
    assert scores["class"] == ["cats", "cats", "dogs", "dogs", "dogs"]
    assert script("--encode", pets / "dogs" / "4.png") == 0
    assert np.load(ENCODED / "4/codes.npz")["names"].tolist() == ["4.png"]
    assert "labels" not in np.load(ENCODED / "4/codes.npz")


@pytest.mark.slow
def test_without_classes_that_it_knows_a_conditional_model_assumes_the_most_probable(
    script, start, small_blocks, idx_folder, capsys
):
    """On its own images without their labels it must assume mostly the right ones, with the same p(x)."""
    start("--model", "cvae", "--num_epochs", "12", "--prior", "standard")
    from data import load_dataset

    test = load_dataset("mnist", str(idx_folder)).test
    np.savez("unlabelled.npz", images=test.x)
    flags = ["--model", "cvae", "--num_importance_samples", 50]
    capsys.readouterr()
    assert script(*flags, "--score", "mnist", "--to", "with") == 0
    assert script(*flags, "--score", "unlabelled.npz", "--to", "without") == 0
    assert "NOTE: 60 images without a class that the model knows: the most probable one is assumed" in (
        capsys.readouterr().out
    )
    known, unknown = table(pathlib.Path("with")), table(pathlib.Path("without"))
    assert list(unknown) == ["name", "most_probable_class", "elbo", "rate", "distortion", "log_p_x", "ratio_to_png"]
    is_right = np.array(known["class"]) == np.array(unknown["most_probable_class"])
    assert is_right.mean() > 0.5, "chance is 0.1"
    assert np.allclose(np.array(known["elbo"])[is_right], np.array(unknown["elbo"])[is_right])
    assert np.allclose(known["log_p_x"], unknown["log_p_x"], rtol=1e-3)
    assert script("--model", "cvae", "--encode", "unlabelled.npz") == 0
    assert np.load("outputs/cvae/mnist/encode/unlabelled/codes.npz")["mean"].shape == (60, 3)


def test_a_class_that_the_model_does_not_know_leaves_the_others_known(script, start, tmp_path, capsys):
    """Also with the name of a file that is no text."""
    start("--model", "cvae")
    names = ["3/a.png", "5/b.png", os.fsdecode(b"new/\xff.png")]
    for number, name in enumerate(names):
        path = tmp_path / "some" / name
        path.parent.mkdir(parents=True)
        Image.new("L", (12, 12), 60 * number).save(path)
    flags = ["--model", "cvae", "--score", "some", "--num_importance_samples", 2]
    assert script(*flags) == 0
    printed = capsys.readouterr().out
    assert "NOTE: 1 image without a class that the model knows: the most probable one is assumed" in printed
    assert "NOTE: of the data's classes the model knows 3, 5, by these names" in printed
    with open("outputs/cvae/mnist/score/some/scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["3", "5", "new"]
    assert [row["most_probable_class"] == "" for row in rows] == [True, True, False]
    assert [row["log_p_x_given_y"] == "" for row in rows] == [False, False, True]
    assert rows[2]["name"] == r"new/\udcff.png"
    assert script("--model", "cvae", "--encode", "some") == 0
    codes = np.load("outputs/cvae/mnist/encode/some/codes.npz")
    assert codes["most_probable_class"].tolist() == [row["most_probable_class"] for row in rows]


@pytest.mark.slow
def test_a_model_of_several_labels_at_a_time_needs_them(script, capsys, pets):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 12, 12), dtype=np.uint8), rng.integers(0, 2, (40, 3))
    np.savez("several.npz", images=images, labels=labels)
    flags = ["--model", "cvae", "--dataset", "several.npz", "--prior", "standard", "--hidden_dims", 8]
    assert script(*flags, "--num_epochs", 1, "--batch_size", 8) == 0
    flags = ["--model", "cvae", "--dataset", "several.npz"]
    assert script(*flags, "--score", "several.npz", "--num_importance_samples", 2, only=True) == 0
    scores = table(pathlib.Path("outputs/cvae/several/score/several"))
    assert list(scores) == ["name", "class", "elbo", "rate", "distortion", "log_p_x_given_y", "ratio_to_png"]
    assert scores["class"][0] == "+".join(str(number) for number in np.flatnonzero(labels[0]))
    assert script(*flags, "--encode", "several.npz", only=True) == 0
    assert np.array_equal(np.load("outputs/cvae/several/encode/several/codes.npz")["labels"], labels)
    capsys.readouterr()
    for verb in ("--score", "--encode"):
        assert script(*flags, verb, pets, only=True) == 1
        assert "this model needs the labels of pets, which are not all of its classes" in capsys.readouterr().err


@pytest.mark.slow
def test_points_have_codes_and_scores_but_no_halves(script, capsys):
    points = ["--dataset", "moons", "--num_epochs", 1, "--hidden_dims", 8]
    assert script(*points, "--num_samples", 10) == 0
    assert script("--dataset", "moons", "--encode", "moons", only=True) == 0
    assert np.load("outputs/vae/moons/encode/moons/codes.npz")["mean"].shape == (2000, 3)
    flags = ["--num_importance_samples", 2, "--split", "all", "--max_examples", 50, "--inliers", 0]
    assert script("--dataset", "moons", "--score", "moons", *flags, only=True) == 0
    assert len(table(pathlib.Path("outputs/vae/moons/score/moons"))["name"]) == 50
    assert script("--dataset", "moons", "--fill_in", "moons", "--hide", "left", only=True) == 1
    assert "--fill_in is for images, and moons are points" in capsys.readouterr().err


def test_inliers_give_the_auroc_of_each_score(script, start, pets, capsys):
    start()
    for inliers in (["cats"], [0]):
        capsys.readouterr()
        assert script("--score", pets, "--num_importance_samples", 2, "--inliers", *inliers) == 0
        lines = capsys.readouterr().out.split("against all other classes\n")[1].splitlines()
        found = {line.split()[0]: float(line.split()[1]) for line in lines[:5]}
        scores = table(SCORED / "pets")
        assert list(found) == ["elbo", "rate", "distortion", "log_p_x", "ratio_to_png"]
        pairs = [(a, b) for a in range(3) for b in range(3, 6)]
        for name, sign in (("elbo", -1), ("rate", 1), ("distortion", 1), ("log_p_x", -1), ("ratio_to_png", -1)):
            odder = np.mean([sign * scores[name][b] > sign * scores[name][a] for a, b in pairs])
            assert found[name] == pytest.approx(odder, abs=1e-4)


def test_the_ratio_to_png_sets_the_size_of_the_file_against_the_likelihood(script, start):
    start()
    rng = np.random.default_rng(0)
    images = np.zeros((4, 12, 12, 1), np.uint8)
    images[2:] = rng.integers(0, 256, images[2:].shape)
    np.savez("plain.npz", images=images)
    assert script("--score", "plain.npz", "--num_importance_samples", 3, "--to", "plain") == 0
    scores = {name: np.array(values) for name, values in table(pathlib.Path("plain")).items()}
    bits = (scores["ratio_to_png"] - scores["log_p_x"]) / np.log(2)
    for image, found in zip(images, bits, strict=True):
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "png", optimize=True)
        assert found == pytest.approx(8 * len(file.getvalue()), rel=1e-5)
    assert bits[2:].min() > bits[:2].max() + 800, "noise takes at least 8 bits a pixel, black next to none"


def test_separations_are_one_half_for_equal_scores_and_none_without_two_kinds():
    scores = {"elbo": np.ones(4), "rate": np.arange(4), "bits_per_dim": np.arange(4), "log_p_x": np.array([np.nan] * 4)}
    assert separations(scores, np.array([1, 1, 0, 0], bool)) == {"elbo": 0.5, "rate": 1.0}
    assert separations(scores, np.ones(4, bool)) == separations(scores, np.zeros(4, bool)) == {}


WRONG = {  # flags -> exit code, message
    "--encode nowhere/at/all": (2, "there is no file or folder nowhere/at/all"),
    "--score mnits": (2, "unknown dataset 'mnits': did you mean mnist?"),
    "--encode pets --score pets": (2, "--encode goes with no other verb"),
    "--score pets --train": (2, "--score goes with no other verb"),
    "--score pets --evaluate --sample": (2, "--score goes with no other verb"),
    "--compare vae/mnist --score pets": (2, "--compare takes runs as they are: it goes with no other verb"),
    "--split test": (2, "--split goes with --encode, --score, --fill_in or --compress, not with training"),
    "--evaluate --to there": (
        2,
        "--to goes with --encode, --score, --fill_in, --compress, --decompress, --explore or --slim, "
        "not with --evaluate",
    ),
    "--encode pets --inliers cats": (2, "--inliers goes with --score, not with --encode"),
    "--encode pets --num_importance_samples 3": (2, "goes with training, --evaluate or --score, not with --encode"),
    "--score pets --split validation": (2, "must be test, train or all"),
    "--score pets --split train": (1, "--split train: pets is not split into training and test data"),
    "--score pets --inliers horses": (1, "--inliers horses: pets has no such class, but cats, dogs"),
    "--score pets --inliers 2": (1, "--inliers 2: pets has no such class, but cats, dogs"),
    "--score pets --inliers cat": (1, "did you mean cats?"),
    "--score pets --inliers cats 1": (1, "--inliers names every class of pets"),
    "--score pets/cats --inliers 0": (1, "--inliers needs classes, and cats has none"),
    "--score moons": (1, "moons holds points, the model is of images"),
    "--encode empty": (1, "holds no images"),
    "--encode notes.txt": (1, "notes.txt is neither a folder of images, nor an .npz file, nor an image"),
    "--score broken.npz": (1, "broken.npz cannot be read as an .npz archive"),
    "--encode unreadable": (1, "unreadable holds no image that can be read"),
    "--encode pets --to notes.txt": (1, "cannot make the folder notes.txt: a file is in its place"),
    "--encode pets --checkpoint nowhere.weights.h5": (1, "there is no checkpoint at nowhere.weights.h5"),
    "--encode pets --run_name another": (1, "there is no checkpoint at model_ckpts/vae/another"),
    "--fill_in pets --score pets": (2, "--score goes with no other verb"),
    "--fill_in pets --hide middle": (2, "must be left, right, top, bottom, centre or a number between 0 and 1, not"),
    "--fill_in pets --hide 1": (2, "or a number between 0 and 1, not '1'"),
    "--fill_in pets --hide nan": (2, "or a number between 0 and 1, not 'nan'"),
    "--fill_in pets --hide rihgt": (2, "did you mean right?"),
    "--hide left": (2, "--hide goes with --fill_in, not with training"),
    "--encode pets --hide left": (2, "--hide goes with --fill_in, not with --encode"),
    "--fill_in pets --num_importance_samples 3": (2, "goes with training, --evaluate or --score, not with --fill_in"),
    "--fill_in pets": (1, "--fill_in pets: say with --hide what is missing, since no pixels are transparent"),
    "--fill_in mnist_sample": (1, "say with --hide what is missing, since no pixels are transparent"),
    "--fill_in pets --hide 1e-9": (1, "--hide 1e-09 hides no pixel of images of 12x12"),
    "--fill_in moons --hide left": (1, "moons holds points, the model is of images"),
}


def test_what_is_wrong_is_said_in_one_line(script, start, pets, capsys):
    start()
    pathlib.Path("empty").mkdir()
    pathlib.Path("unreadable").mkdir()
    for path in ("notes.txt", "broken.npz", "unreadable/a.png"):
        pathlib.Path(path).write_text("nothing")
    for flags, (code, message) in WRONG.items():
        capsys.readouterr()
        try:
            found = script(*flags.split(), only=flags.startswith("--compare"))
        except SystemExit as stop:
            found = stop.code
        lines = capsys.readouterr().err.splitlines()
        assert found == code, flags
        assert message in lines[-1], flags
        assert lines[-1].startswith("assignment.py: error: "), flags
        assert "Traceback" not in "".join(lines)
    written = ("codes.*", "scores.*", "fill_in*.*")
    assert not [path for pattern in written for path in pathlib.Path("outputs").rglob(pattern)]


def test_ctrl_c_leaves_an_earlier_table_and_no_half_one(script, start, small_blocks, monkeypatch, capsys):
    start()
    flags = ["--score", "mnist", "--num_importance_samples", 0]
    assert script(*flags) == 0
    before = (SCORED / "mnist/scores.csv").read_bytes()
    import signal

    add = Extremes.add

    def stopping(extremes, block, scores):
        add(extremes, block, scores)
        if extremes.num == 40:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Extremes, "add", stopping)
    assert script(*flags, "--seed", 1) == 130
    assert capsys.readouterr().err.strip().endswith("assignment.py: stopped")
    assert (SCORED / "mnist/scores.csv").read_bytes() == before
    assert {path.name for path in (SCORED / "mnist").iterdir()} == {"scores.csv", "scores.png"}


def test_a_copy_of_a_checkpoint_elsewhere_is_enough(script, start, pets):
    start()
    shutil.move("model_ckpts/vae/mnist/vae.weights.h5", "best.weights.h5")
    assert script("--encode", pets, "--checkpoint", "best.weights.h5", only=True) == 0
    assert pathlib.Path("outputs/vae/best/encode/pets/codes.npz").is_file()


def test_only_the_images_at_both_ends_are_kept():
    rng = np.random.default_rng(0)
    scores, extremes = rng.normal(size=300), Extremes()
    for start in range(0, 300, 60):
        rows = np.arange(start, start + 60)
        x = np.full((60, 2, 2, 1), 1, np.uint8) * (rows % 250)[:, None, None, None].astype(np.uint8)
        extremes.add(Block(x, np.zeros((60, 0)), [str(row) for row in rows], np.ones((60, 1), bool)), scores[rows])
        assert len(extremes.x) <= 2 * NUM_SHOWN
    order = np.argsort(scores)
    ends = [*order[:NUM_SHOWN], *order[-NUM_SHOWN:]]
    assert list(extremes.names) == [str(row) for row in ends]
    assert np.array_equal(extremes.x[:, 0, 0, 0], np.array(ends) % 250)


@pytest.mark.parametrize("num", [1, 2, 39, 41])
def test_the_picture_shows_names_and_scores_of_both_ends(tmp_path, drawn, num):
    from pictures.album import Album

    extremes = Extremes()
    names = [f"a/rather/long/path/to/image_{number}.png" for number in range(num)]
    x = np.zeros((num, 5, 9, 3), np.uint8)
    extremes.add(Block(x, np.zeros((num, 0)), names, known=np.ones(x.shape[:3], bool)), np.arange(num) + 0.25)
    draw_extremes(Album(tmp_path), extremes, title="scores", seed=0)
    figure = drawn["scores.png"]
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert len(figure.axes) == min(num, 2 * NUM_SHOWN)
    assert texts[:2] == ["0.2", "...path/to/image_0.png"]
    headings = [text.get_text() for text in figure.texts]
    if num > 2 * NUM_SHOWN:
        assert texts[2 * NUM_SHOWN] == "40.2", "the most likely image first"
        assert headings[:2] == ["the 20 least likely", "the 20 most likely"]
    else:
        assert headings[0] == "from the least to the most likely"


def test_an_empty_class_name_is_refused():
    with pytest.raises(values.argparse.ArgumentTypeError, match="must be the name or number of a class"):
        values.class_name("")
