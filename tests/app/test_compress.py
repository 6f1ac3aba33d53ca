"""--compress and --decompress: images to a small file and back, from the command line."""

import importlib.util
import pathlib

import numpy as np
import pytest
from PIL import Image

import vae
from coding import files, lossy
from coding.model import LossyModel

COMPRESSED, DECOMPRESSED = (pathlib.Path("outputs/vae/mnist", verb) for verb in ("compress", "decompress"))
BINARY = ("--binarize", "dynamic")
LEVELS = ("--model", "cvae", "--prior", "mixture", "--likelihood", "logistic", "--network", "conv")


def failed(capsys) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.slow
def test_binary_images_return_as_they_were_binarized(script, start, tmp_path, capsys):
    start(*BINARY)
    assert script("--compress", "mnist") == 0
    assert "NOTE: pixels are binarized, dynamic, seed 0" in (said := capsys.readouterr().out)
    assert "the model knows no classes, so the file has no labels" in said
    path = COMPRESSED / "mnist.vz"
    assert f"60 images in {path.stat().st_size:,} bytes" in said
    assert script("--decompress", path, "--to", "a.npz") == 0
    (images,) = np.load("a.npz").values()
    trained = vae.load("model_ckpts/vae/mnist/vae.weights.h5")
    assert images.shape == (60, 12, 12, 1)
    assert {*images.ravel()} == {0, 255}
    # Those that --evaluate sees: what is binary already stays as it is.
    assert script("--compress", "a.npz", "--to", "b.vz", "--split", "test") == 1
    assert script("--compress", "a.npz", "--to", "b.vz") == 0
    assert script("--decompress", "b.vz", "--to", "b.npz") == 0
    np.testing.assert_array_equal(np.load("b.npz")["images"], images)
    assert trained.binarize == "dynamic"


@pytest.mark.slow
def test_levels_and_labels_return(script, start, idx_folder, capsys):
    start(*LEVELS)
    of_model = ("--model", "cvae")
    assert script(*of_model, "--compress", "mnist", "--to", "a.vz", "--split", "all") == 0
    assert script(*of_model, "--decompress", "a.vz", "--to", "a.npz") == 0
    from data import load_dataset

    dataset, returned = load_dataset("mnist", idx_folder), np.load("a.npz")
    both = [np.concatenate([getattr(part, name) for part in (dataset.train, dataset.test)]) for name in ("x", "labels")]
    np.testing.assert_array_equal(returned["images"], both[0])
    np.testing.assert_array_equal(returned["labels"], both[1].argmax(axis=1))
    assert returned["class_names"].tolist() == list("0123456789")
    assert script(*of_model, "--decompress", "a.vz", "--to", "pictures") == 0
    names = sorted(path.as_posix() for path in pathlib.Path("pictures").glob("*/*"))
    assert names[:2] == ["pictures/0/000.png", "pictures/0/010.png"]
    assert len(names) == 260
    np.testing.assert_array_equal(np.asarray(Image.open(names[1])), both[0][10, :, :, 0])
    assert script(*of_model, "--decompress", "a.vz", "--to", "pictures") == 1
    assert "pictures is there already: name another folder or .npz file" in failed(capsys)
    assert script(*of_model, "--compress", "a.npz", "--to", "again.vz") == 0
    assert "most probable" not in capsys.readouterr().out, "the names of the classes are read back"
    # A file can be used as data: images without classes get the most probable one.
    assert script(*of_model, "--compress", "pictures/3/003.png", "--to", "b.vz") == 0
    assert "1 image without a class that the model knows" in capsys.readouterr().out
    assert script(*of_model, "--decompress", "b.vz", "--to", "b.npz") == 0
    np.testing.assert_array_equal(np.load("b.npz")["images"][0], both[0][3])


@pytest.mark.slow
def test_images_are_appended(script, start, capsys):
    start(*BINARY)
    assert script("--compress", "mnist", "--to", "a.vz", "--max_examples", 9) == 0
    assert script("--compress", "mnist", "--to", "a.vz", "--append") == 0
    assert files.read(pathlib.Path("a.vz")).counts == (9, 60)
    assert "69 images in" in capsys.readouterr().out
    assert script("--decompress", "a.vz", "--to", "a.npz") == 0
    assert len(np.load("a.npz")["images"]) == 69
    assert script("--compress", "mnist", "--to", "none.vz", "--append") == 1
    assert "cannot read none.vz" in failed(capsys)
    assert script("--compress", "mnist", "--to", "l.vz", "--lossy") == 0
    assert script("--compress", "mnist", "--to", "l.vz", "--append") == 1
    assert "l.vz is a lossy file" in failed(capsys)


@pytest.mark.slow
def test_codes_alone_are_smaller_and_give_what_decode_gives(script, start):
    start(*LEVELS)
    of_model = ("--model", "cvae")
    assert script(*of_model, "--compress", "mnist", "--to", "a.vz") == 0
    sizes = []
    for levels in (4, 1):
        pathlib.Path("l.vz").unlink(missing_ok=True)
        assert script(*of_model, "--compress", "mnist", "--to", "l.vz", "--lossy", "--levels", levels) == 0
        sizes.append(pathlib.Path("l.vz").stat().st_size)
    assert sizes[1] < sizes[0] < pathlib.Path("a.vz").stat().st_size / 4
    assert script(*of_model, "--decompress", "l.vz", "--to", "l.npz") == 0
    trained = vae.load("model_ckpts/cvae/mnist/cvae.weights.h5")
    coded = files.read(pathlib.Path("l.vz"))
    z, classes = lossy.decompress_codes(LossyModel(trained.model, trained.class_probs), coded)
    np.testing.assert_array_equal(classes, np.arange(60) % 10)
    np.testing.assert_array_equal(np.load("l.npz")["images"], np.round(255 * trained.decode(z, classes)))


def test_grey_pixels_need_a_likelihood_of_levels(script, start, capsys):
    start()
    assert script("--compress", "mnist") == 1
    error = failed(capsys)
    assert "mnist has grey pixels, and this model's likelihood gives probabilities of binary ones" in error
    assert not COMPRESSED.exists() or not any(COMPRESSED.iterdir())
    assert script("--compress", "mnist", "--lossy") == 0


@pytest.mark.slow
def test_a_model_that_cannot_code_says_why(script, start, capsys):
    start("--prior", "flow", "--binarize", "dynamic")
    assert script("--compress", "mnist") == 1
    assert "vae.weights.h5 cannot compress: its flow prior has no distribution" in failed(capsys)


@pytest.mark.slow
def test_a_file_of_another_model_is_refused_by_name(script, start, capsys):
    start(*BINARY)
    assert script("--compress", "mnist", "--to", "a.vz") == 0
    assert script("--num_epochs", 1, "--run_name", "other", *BINARY) == 0
    capsys.readouterr()
    for flags in (("--decompress", "a.vz"), ("--compress", "mnist", "--to", "a.vz", "--append")):
        assert script(*flags, "--run_name", "other") == 1
        error = failed(capsys)
        assert "a.vz was written with another model, vae/mnist, than model_ckpts/vae/other/vae.weights.h5" in error


def test_damaged_files_give_no_images(script, start, capsys):
    start(*BINARY)
    assert script("--compress", "mnist", "--to", "a.vz") == 0
    content = bytearray(pathlib.Path("a.vz").read_bytes())
    content[len(content) // 2] ^= 1
    pathlib.Path("a.vz").write_bytes(content)
    capsys.readouterr()
    assert script("--decompress", "a.vz", "--to", "out") == 1
    assert "a.vz is damaged or cut short, so it is not decoded" in failed(capsys)
    assert not pathlib.Path("out").exists()
    assert script("--decompress", "nothing.vz") == 1
    assert "cannot read nothing.vz: No such file" in failed(capsys)


def test_nothing_that_is_there_is_written_over(script, start, capsys):
    start(*BINARY)
    checkpoint = pathlib.Path("model_ckpts/vae/mnist/vae.weights.h5")
    before = checkpoint.read_bytes()
    assert script("--compress", "mnist", "--to", "a.vz") == 0
    capsys.readouterr()
    for path in (checkpoint, pathlib.Path("a.vz")):
        assert script("--compress", "mnist", "--to", path) == 1
        assert f"{path} is there already: name another file with --to, or add to this one with --append" in failed(
            capsys
        )
    assert checkpoint.read_bytes() == before
    for _ in range(2):  # where the run has its own place, a second run takes that of the first
        assert script("--compress", "mnist") == 0
        assert script("--decompress", COMPRESSED / "mnist.vz") == 0
    assert len([*DECOMPRESSED.glob("mnist/*.png")]) == 60


def test_pictures_appear_together_or_not_at_all(script, start, monkeypatch, capsys):
    start(*BINARY)
    assert script("--compress", "mnist", "--to", "a.vz") == 0
    save = Image.Image.save

    def fail_late(self, path, *args, **options):
        if path.name == "30.png":
            raise OSError(28, "full")
        save(self, path, *args, **options)

    monkeypatch.setattr(Image.Image, "save", fail_late)
    capsys.readouterr()
    assert script("--decompress", "a.vz", "--to", "out") == 1
    assert "cannot write out: No space left on device" in failed(capsys)
    assert not pathlib.Path("out").exists()
    assert not [*pathlib.Path().glob(".partial*")]


def test_classes_get_folders_of_their_own_within_the_folder():
    from app.compress import folder_names

    assert folder_names(["cat", "über ß", "a b'c"]) == ["cat", "über ß", "a b'c"]
    assert folder_names(["..", "a/b", "a_b", ""]) == ["0_", "1_a_b", "2_a_b", "3_"]
    assert folder_names([".", "x" * 300, "nul\0"])[1:] == ["1_" + "x" * 80, "2_nul_"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--compress mnist --levels 2", "--levels goes with --lossy"),
        ("--compress mnist --append", "--append needs --to"),
        ("--compress mnist --append --to a.vz --lossy", "--append is for images without loss"),
        ("--decompress a.vz --lossy", "--lossy goes with --compress"),
        ("--compress mnist --evaluate", "--compress goes with no other verb"),
        ("--compress mnist --lossy --levels 0", "must be a number of at least 0.01"),
    ],
)
def test_flags_that_make_no_sense(script, capsys, flags, sentence):
    with pytest.raises(SystemExit) as stopped:
        script(*flags.split(), only=True)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_coder_is_asked_for_where_it_is_absent(script, start, monkeypatch, capsys):
    start(*BINARY)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "constriction" else find_spec(name))
    for flags in (("--compress", "mnist"), ("--decompress", "a.vz")):
        assert script(*flags) == 1
        error = failed(capsys)
        assert f"{flags[0]} needs the package constriction: pip install -r requirements-compression.txt" in error
