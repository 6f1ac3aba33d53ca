"""The user's own images, in a folder or an .npz: the split, the labels, the notes, and what is refused."""

import numpy as np
import pytest
from conftest import SHARED_MNIST
from PIL import Image

from data import load_dataset
from sources.own_data import load_own, permute_rows
from sources.readers import DataError

SHARED_DATA = SHARED_MNIST.parent


def save_npz(path, num=50, **more):
    images = np.arange(num, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 3), np.uint8)
    np.savez(path, images=images, **more)
    return path


def test_a_tenth_of_each_class_is_held_out_the_same_every_time(tmp_path):
    path = save_npz(tmp_path / "a.npz", labels=np.arange(50) // 25)
    dataset, again = load_dataset(path), load_dataset(path)
    assert sorted(dataset.test.labels.sum(axis=0)) == [2, 3]
    train, test = dataset.train.x[:, 0, 0, 0], dataset.test.x[:, 0, 0, 0]
    assert sorted([*train, *test]) == list(range(50))
    assert np.array_equal(dataset.train.labels.argmax(axis=1), train // 25), "images keep their labels"
    assert np.array_equal(dataset.test.labels.argmax(axis=1), test // 25)
    assert np.array_equal(again.train.x, dataset.train.x)
    assert len(set(train[-10:] // 25)) == 2, "in a random order, so that the last of them can stand for all"


def test_the_only_example_of_a_class_is_trained_on(tmp_path):
    for only in (0, 1, 2):
        labels = np.where(np.arange(30) == 7, only, (only + 1) % 3)
        dataset = load_dataset(save_npz(tmp_path / "a.npz", num=30, labels=labels))
        assert dataset.train.labels[:, only].sum() == 1
        assert len(dataset.test) == 3


def test_images_without_labels_have_no_classes(tmp_path):
    dataset = load_dataset(save_npz(tmp_path / "a.npz"))
    assert dataset.num_classes == 0
    assert dataset.describe().endswith("4x3 grey images, 45 for training and 5 for test, no classes")


@pytest.mark.parametrize(
    ("images", "highest"),
    [
        (np.eye(4, dtype=np.uint8), 1),
        (np.eye(4, dtype=np.int64), 1),
        (np.eye(4, dtype=np.int32) * 63, 63),
        (np.eye(4) / 255, 1),  # brought to [0, 1] twice
        (np.eye(4, dtype=np.int32) * 64, None),
        (np.eye(4, dtype=bool), None),
        (np.eye(4), None),
    ],
)
def test_images_that_are_nearly_black_are_noted(tmp_path, images, highest):
    images = np.stack([images] * 10)
    np.savez(tmp_path / "a.npz", images=images)
    np.savez(tmp_path / "b.npz", train_images=np.ones_like(images) * 200, test_images=images)
    notes = load_dataset(tmp_path / "a.npz").notes
    if highest is None:
        assert notes == ()
        return
    (note,) = notes
    assert note.startswith(f"no pixel of 'images' in {tmp_path}/a.npz is brighter than {highest} of 255: is {highest} ")
    assert "Whole numbers are read as 0 (black) to 255 (white), floats as 0 to 1" in note
    if images.dtype.kind in "iu":
        (note,) = load_dataset(tmp_path / "b.npz").notes
        assert note.startswith(f"no pixel of 'test_images' in {tmp_path}/b.npz")


def test_a_class_folder_is_a_dataset(tmp_path):
    for name in ("b", "a"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (5, 4), (i, 0, 100 * (name == "b"))).save(tmp_path / "set" / name / f"{i}.png")
    dataset = load_dataset(tmp_path / "set")
    assert dataset.class_names == ("a", "b")
    assert dataset.data_shape == (4, 5, 3)
    assert dataset.test.labels.sum(axis=0).tolist() == [2, 2]
    assert np.array_equal(dataset.train.x[:, 0, 0, 2] == 100, dataset.train.labels[:, 1] == 1)
    assert load_dataset(tmp_path / "set", image_size=(8, 6)).data_shape == (8, 6, 3)


def test_folders_called_train_and_test_are_the_split(tmp_path):
    for split, num in (("train", 20), ("test", 4)):
        for name in ("a", "b"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(num):
                Image.new("L", (5, 4), i).save(tmp_path / "set" / split / name / f"{i}.png")
    dataset = load_dataset(tmp_path / "set")
    assert (len(dataset.train), len(dataset.test)) == (40, 8)
    assert len(set(dataset.train.labels[-8:].argmax(axis=1))) == 2
    (tmp_path / "set" / "val").mkdir()
    assert load_dataset(tmp_path / "set").notes == (
        f"no pixel of {tmp_path}/set/train is brighter than 19 of 255: are its files of 16 bits but use fewer?",
        f"no pixel of {tmp_path}/set/test is brighter than 3 of 255: are its files of 16 bits but use fewer?",
        f"the folder {tmp_path}/set/val is not used",
    )
    (tmp_path / "set" / "test" / "b").rename(tmp_path / "set" / "test" / "c")
    with pytest.raises(DataError, match="do not have the same classes"):
        load_dataset(tmp_path / "set")
    (tmp_path / "set" / "test" / "c").rename(tmp_path / "set" / "test" / "b")
    (tmp_path / "set" / "test").rename(tmp_path / "set" / "Test")
    assert len(load_dataset(tmp_path / "set").test) == 8
    (tmp_path / "set" / "Test").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="has a folder train, but none called test"):
        load_dataset(tmp_path / "set")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((3, 2, 2))}, "neither an array 'images' nor one called 'train_images'"),
        ({"images": np.zeros((1, 2, 2))}, "holds 1 image: that is too few"),
        ({"images": np.zeros((3, 2, 2)), "labels": np.zeros(4)}, "'labels' has 4 labels for 3 images"),
        ({"images": np.full((3, 2, 2), np.nan)}, "'images' has NaN in image 0"),
        ({"images": np.full((3, 2, 2), 7.0)}, "floats must lie in"),
        ({"images": np.array([{}, {}, {}])}, "Python objects"),
        (
            {"train_images": np.zeros((3, 2, 2)), "test_images": np.zeros((3, 2, 3))},
            "training images of 2x2x1 and test images of 2x3x1",
        ),
        (
            {"train_images": np.zeros((3, 2, 2)), "test_images": np.zeros((3, 2, 2)), "test_labels": np.zeros(3)},
            "labels for only one of its training and test examples",
        ),
        (
            {
                "train_images": np.zeros((3, 2, 2)),
                "train_labels": np.eye(3),
                "test_images": np.zeros((3, 2, 2)),
                "test_labels": np.arange(3),
            },
            "training labels of another kind or number",
        ),
    ],
)
def test_a_bad_npz_is_named_with_what_is_wrong(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(tmp_path / "bad.npz")
    assert "bad" in str(error.value)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"a.csv is neither a folder of images nor an .npz file"):
        load_dataset(tmp_path / "a.csv")


def test_rows_are_permuted_in_place():
    rng = np.random.default_rng(0)
    for num in (1, 2, 7, 100):
        array, order = rng.normal(size=(num, 3)), rng.permutation(num)
        expected = array[order]
        permute_rows(array, order)
        assert np.array_equal(array, expected)


@pytest.mark.skipif(not (SHARED_DATA / "frey_faces").is_dir(), reason="needs the Frey faces in ../shared/data")
def test_photographs_are_told_from_drawings():
    faces = load_dataset(SHARED_DATA / "frey_faces" / "frey_faces.npz")
    assert faces.data_shape == (28, 20, 1)
    assert not faces.is_near_binary()
    assert faces.kind() == "photographs"
    assert load_dataset("mnist_sample").kind() == "drawings"


def test_names_of_classes_in_an_npz_file(tmp_path):
    images, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    images[0] = 255
    names = np.array(["cat", "über"])
    np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=names)
    assert load_own(tmp_path / "a.npz").class_names == ("cat", "über")
    for wrong in (names[:1], np.array(["cat", "cat"]), np.arange(2), names[None]):
        np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=wrong)
        with pytest.raises(DataError, match="'class_names' must be different texts"):
            load_own(tmp_path / "a.npz")
