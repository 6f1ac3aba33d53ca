"""What a dataset says of itself, and the names and paths that it is found by."""

import dataclasses
import subprocess
import sys
import zlib

import numpy as np
import pytest
from conftest import REPOSITORY

from data import Dataset, Examples, class_numbers, load_dataset, make_dataset, resolve_name, short_name
from sources.examples import RawData
from sources.readers import DataError


def test_importing_data_imports_neither_tensorflow_nor_pillow():
    """A wrong dataset name is answered at once."""
    heavy = ("tensorflow", "keras", "PIL", "tqdm", "sklearn", "scipy", "requests", "mlxtend")
    code = f"import sys, data; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# Names and paths


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(DataError, match=r"unknown dataset 'minst': did you mean mnist.* mnist_sample, .* moons"):
        load_dataset("minst")
    with pytest.raises(DataError, match="there is no file or folder no/such"):
        load_dataset("no/such")
    with pytest.raises(DataError, match=r"there is no file or folder faces\.npz"):
        load_dataset("faces.npz")


@pytest.mark.parametrize(
    ("name", "suggested"),
    [("cifar", "cifar10"), ("minst", "mnist"), ("noise", "noise"), ("nosie", "noise"),
     ("fashion-mnist", "fashionmnist"), ("fashion", "fashion_mnist"), ("chest", "chestmnist"), ("moon", "moons"),
     ("omniglot", None), ("dermamnist", None), ("interpolate", None), ("imagenet", None), ("m", None)],
)  # fmt: skip
def test_only_a_near_name_is_suggested(name, suggested):
    if name == suggested:
        assert resolve_name(name, ["noise"]) == name
        return
    with pytest.raises(DataError) as error:
        resolve_name(name, ["noise"])
    found = str(error.value).partition("did you mean ")[2].partition("?")[0]
    assert found == (suggested or "")


def test_a_path_names_its_run_after_its_last_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces.npz").touch()
    (tmp_path / "v1.0").mkdir()
    assert resolve_name("faces.npz") == str(tmp_path / "faces.npz")
    assert resolve_name("FashionMNIST") == "fashion_mnist"
    (tmp_path / "..npz").touch()
    assert short_name(resolve_name("..npz")) == "data", "not a name for the folder above the run's"
    with pytest.raises(DataError, match="unknown dataset ''"):
        resolve_name("")
    with pytest.raises(DataError, match="there is no file or folder ~nobody/x"):
        resolve_name("~nobody/x")
    assert [short_name(resolve_name(path)) for path in ("faces.npz", "v1.0/", "mnist")] == ["faces", "v1.0", "mnist"]


# What a dataset says of itself


def dataset_of(num, shape=(8, 8, 1), value=0):
    part = Examples(np.full((num, *shape), value, np.uint8), np.zeros((num, 0), np.uint8))
    return Dataset("set", "nowhere", part, part)


@pytest.mark.parametrize(
    ("shape", "value", "kind"),
    [((2,), 0, "points"), ((8, 8, 3), 0, "colour"), ((8, 8, 3), 128, "colour"), ((8, 8, 1), 128, "photographs"),
     ((8, 8, 1), 0, "drawings"), ((8, 8, 1), 255, "drawings")],
)  # fmt: skip
def test_the_kind_of_data_is_seen_from_their_shape_and_greyness(shape, value, kind):
    assert dataset_of(10, shape, value).kind() == kind


def test_up_to_10_000_training_examples_are_few():
    assert dataset_of(10_000, (1, 1, 1)).is_small
    assert not dataset_of(10_001, (1, 1, 1)).is_small


def test_the_fingerprint_sees_labels_and_test_examples(tmp_path):
    parts = {"train_images": np.zeros((9, 2, 2)), "test_images": np.zeros((3, 2, 2))}
    parts |= {"train_labels": np.arange(9) % 3, "test_labels": np.arange(3)}
    found = set()
    for changed in (None, *parts):
        arrays = {name: array[::-1] + 0.0 if name == changed else array for name, array in parts.items()}
        if changed and "images" in changed:
            arrays[changed] = np.full_like(parts[changed], 1)
        np.savez(tmp_path / "a.npz", **arrays)
        found.add(load_dataset(tmp_path / "a.npz").fingerprint())
    assert len(found) == 5


def test_the_fingerprint_is_the_one_that_checkpoints_hold():
    sample = load_dataset("mnist_sample")
    parts = (sample.train.x, sample.train.labels, sample.test.x, sample.test.labels)
    assert sample.fingerprint() == f"{zlib.crc32(b''.join(part.tobytes() for part in parts)):08x}" == "87fe1367"
    assert sample.hold_out(500).fingerprint() == "eae75b77"


def test_a_whole_dataset_is_recognized_by_the_fingerprint_after_holding_out(idx_folder):
    """A run with --validation_size is tested on the test set later: is this the dataset that it was trained on?"""
    whole = load_dataset("mnist", idx_folder)
    stored = whole.hold_out(30).fingerprint()
    assert whole.fingerprint() != stored
    assert load_dataset("mnist", idx_folder).hold_out(30).fingerprint() == stored
    assert whole.hold_out(29).fingerprint() != stored, "it knows which examples were held out"
    changed = whole.train.labels.copy()
    changed[3] = changed[4]
    other = dataclasses.replace(whole, train=Examples(whole.train.x, changed))
    assert other.hold_out(30).fingerprint() != stored


def test_multi_hot_labels_have_one_number_each():
    labels = np.array([[1, 0], [0, 1], [0, 0], [1, 1]])
    numbers, names = class_numbers(labels, ("a", "b"))
    assert [names[number] for number in numbers] == ["a", "b", "none", "several"]


def test_validation_holds_out_the_last_training_examples_and_drops_the_test_set(idx_folder):
    whole = load_dataset("mnist", idx_folder)
    held_out = whole.hold_out(30)
    assert held_out.split == "validation"
    assert np.array_equal(held_out.train.x, whole.train.x[:-30])
    assert np.array_equal(held_out.test.x, whole.train.x[-30:])
    with pytest.raises(DataError, match="leaves none"):
        whole.hold_out(200)
    assert np.shares_memory(held_out.train.x, whole.train.x)
    assert whole.hold_out(0) is whole


def labelled(train: list[int], test: list[int]) -> Dataset:
    x = np.full((1, 2, 2, 1), 200, np.uint8)
    splits = {name: (x.repeat(len(y), axis=0), np.array(y)) for name, y in (("train", train), ("test", test))}
    return make_dataset("set", RawData("nowhere", splits))


def test_classes_without_training_examples_are_noted():
    assert labelled([0, 2], [0, 2]).notes == ()
    assert labelled([0, 1, 3], [0]).notes == (), "a class that nobody asks about"
    assert labelled([0, 2], [0, 1, 2]).notes == ("no training example is of class 1, but test examples are",)
    assert labelled([0, 3], [2, 1, 0]).notes == ("no training example is of classes 1, 2, but test examples are",)
    held_out = labelled([0, 1, 0, 2], [0, 1, 2]).hold_out(1)
    assert held_out.notes == ("no training example is of class 2, but validation examples are",)
    with pytest.raises(DataError, match="has test examples of class 3, but none to train on"):
        labelled([0, 2], [0, 3])
