import hashlib
import pathlib
import socket
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED_MNIST, bars, write_idx
from PIL import Image
from test_readers import write_cifar10

import data
from data import load_dataset, resolve_name, short_name
from sources import downloads
from sources.examples import Dataset, Examples, class_numbers
from sources.own_data import permute_rows
from sources.readers import DataError

SHARED_DATA = SHARED_MNIST.parent

# The named datasets


def test_a_local_dataset_is_loaded_with_one_hot_labels(idx_folder):
    dataset = load_dataset("mnist", idx_folder)
    assert dataset.train.x.shape == (200, 12, 12, 1)
    assert dataset.train.x.dtype == np.uint8
    assert dataset.test.labels.shape == (60, 10)
    assert np.array_equal(dataset.train.labels.argmax(axis=1), np.arange(200) % 10)
    assert (dataset.train.labels.sum(axis=1) == 1).all()


def test_labels_and_images_of_different_counts_are_refused(tmp_path, idx_folder):
    for source in idx_folder.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(199, np.uint8))
    with pytest.raises(DataError, match="199 labels for 200 images"):
        load_dataset("mnist", tmp_path)


def test_an_incomplete_set_of_files_is_refused(tmp_path, idx_folder):
    name = "train-images-idx3-ubyte.gz"
    (tmp_path / name).write_bytes((idx_folder / name).read_bytes())
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        load_dataset("mnist", tmp_path)


def test_the_relatives_of_mnist_have_folders_of_their_own(tmp_path, idx_folder):
    """A folder with the dataset's name goes before files beside it, and an alias finds it."""
    for folder, value in (("kmnist", 10), ("fashion_mnist", 20), (".", 30)):
        (tmp_path / folder).mkdir(exist_ok=True)
        for stem in ("train", "t10k"):
            write_idx(tmp_path / folder / f"{stem}-images-idx3-ubyte", np.full((10, 4, 4), value, np.uint8))
            write_idx(tmp_path / folder / f"{stem}-labels-idx1-ubyte", np.arange(10, dtype=np.uint8))
    for name, value in (("kmnist", 10), ("fashion_mnist", 20), ("fashionmnist", 20), ("mnist", 30)):
        assert load_dataset(name, tmp_path).train.x.max() == value
    assert load_dataset("fashionmnist", tmp_path).class_names[0] == "T-shirt"
    assert load_dataset("kmnist", tmp_path / "kmnist").train.x.max() == 10


def test_one_relative_of_mnist_is_not_taken_for_another(tmp_path, idx_folder, monkeypatch):
    for source in idx_folder.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    published = (tmp_path / "train-images-idx3-ubyte.gz").read_bytes()
    monkeypatch.setitem(data.PUBLISHED_SHA256, hashlib.sha256(published).hexdigest(), "mnist")
    assert load_dataset("mnist", tmp_path).name == "mnist"
    with pytest.raises(DataError, match=r"is mnist's, not kmnist's: put the files of kmnist into .*kmnist"):
        load_dataset("kmnist", tmp_path)


@pytest.mark.skipif(not SHARED_MNIST.is_dir(), reason="needs the real MNIST files in ../shared/data/mnist")
def test_the_real_mnist_files():
    dataset = load_dataset("mnist", SHARED_MNIST)
    assert dataset.train.x.shape == (60_000, 28, 28, 1)
    assert dataset.test.x.shape == (10_000, 28, 28, 1)
    assert dataset.train.labels.argmax(axis=1)[:5].tolist() == [5, 0, 4, 1, 9]
    assert dataset.is_near_binary()
    with pytest.raises(DataError, match=r"is mnist's, not fashion_mnist's"):
        load_dataset("fashion_mnist", SHARED_MNIST)


def test_cifar10_is_read_from_its_binary_version(tmp_path):
    (tmp_path / "cifar10").mkdir()
    write_cifar10(tmp_path / "cifar10", num=20)
    dataset = load_dataset("cifar10", tmp_path)
    assert dataset.data_shape == (32, 32, 3)
    assert (len(dataset.train), len(dataset.test)) == (100, 20)
    assert dataset.class_names[3] == "cat"


def test_mnist_sample_needs_no_network_and_holds_out_a_fifth_of_each_class():
    dataset = load_dataset("mnist_sample")
    assert len(dataset.train) == 4000
    assert len(dataset.test) == 1000
    assert dataset.test.labels.sum(axis=0).tolist() == [100] * 10
    assert dataset.train.x.max() == 255
    train = {image.tobytes() for image in dataset.train.x}
    assert not any(image.tobytes() in train for image in dataset.test.x)


@pytest.mark.parametrize(("name", "classes"), [("moons", 2), ("circles", 2), ("blobs", 3)])
def test_toy_sets_are_standardized_points_with_classes(name, classes):
    dataset = load_dataset(name)
    assert dataset.is_points
    assert dataset.train.x.shape == (20_000, 2)
    assert dataset.train.x.dtype == np.float32
    np.testing.assert_allclose(dataset.train.x.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(dataset.train.x.std(axis=0), 1, atol=1e-4)
    shares = dataset.test.labels.mean(axis=0)
    assert shares == pytest.approx(np.full(classes, 1 / classes), abs=0.05)
    assert not set(map(tuple, dataset.test.x)) & set(map(tuple, dataset.train.x))
    assert np.array_equal(load_dataset(name).train.x, dataset.train.x)


def test_sizes_and_noise_of_toy_sets_are_arguments():
    settings = {"num_train": 50, "num_test": 10, "noise": 0.0, "factor": 0.5}
    dataset = data.load_toy_set("circles", pathlib.Path(), True, **settings)
    assert (len(dataset.train), len(dataset.test)) == (50, 10)
    radii = np.linalg.norm(dataset.train.x - dataset.train.x.mean(axis=0), axis=1)
    assert np.ptp(radii[dataset.train.labels[:, 0] == 1]) < 0.3


# Names and paths


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(DataError, match=r"unknown dataset 'minst': did you mean mnist.* mnist_sample, .* moons"):
        load_dataset("minst")
    with pytest.raises(DataError, match="there is no file or folder no/such"):
        load_dataset("no/such")
    with pytest.raises(DataError, match=r"there is no file or folder faces\.npz"):
        load_dataset("faces.npz")


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


# The user's own data


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


def test_images_without_labels_have_no_classes(tmp_path):
    dataset = load_dataset(save_npz(tmp_path / "a.npz"))
    assert dataset.num_classes == 0
    assert dataset.describe().endswith("4x3 grey images, 45 for training and 5 for test, no classes")


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
        f"no pixel of {tmp_path}/set/train is brighter than 19 of 255: have its files 16 bits but use fewer?",
        f"no pixel of {tmp_path}/set/test is brighter than 3 of 255: have its files 16 bits but use fewer?",
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
    assert faces.defaults()["likelihood"] == "sigma"
    assert "likelihood" not in load_dataset("mnist_sample").defaults()


# What a dataset says of itself


def dataset_of(num, shape=(8, 8, 1), value=0):
    part = Examples(np.full((num, *shape), value, np.uint8), np.zeros((num, 0), np.uint8))
    return Dataset("set", "nowhere", part, part)


def test_few_images_get_small_batches_and_more_epochs():
    assert dataset_of(20_000).defaults() == {"learning_rate": 2e-3}
    assert dataset_of(20_000, value=128).defaults() == {"likelihood": "sigma"}
    few = dataset_of(1600).defaults()
    assert (few["batch_size"], few["num_epochs"]) == (32, 30)
    assert dataset_of(10).defaults()["batch_size"] == 10
    assert dataset_of(10).defaults()["num_epochs"] == 100
    assert dataset_of(6400).defaults(batch_size=128)["num_epochs"] == 30
    assert dataset_of(50, (8, 8, 3)).defaults()["network"] == "conv"


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


# TensorFlow Datasets


@pytest.fixture
def no_network(monkeypatch, empty_tfds):
    """Nothing prepared by TensorFlow Datasets, and every connection refused."""

    def refuse(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_mnist_out_of_reach_is_told_soon_with_the_ways_to_get_it(no_network, tmp_path):
    started = time.perf_counter()
    with pytest.raises(downloads.OutOfReachError) as error:
        load_dataset("mnist", tmp_path)
    assert time.perf_counter() - started < 30
    for way in ("--data_dir", "train-images-idx3-ubyte.gz", "network", "--dataset mnist_sample", str(tmp_path)):
        assert way in str(error.value)
    assert "\n" not in str(error.value)


def test_tensorflow_datasets_is_the_source_where_there_are_no_files(monkeypatch, tmp_path, capsys):
    """Mocked at the boundary: what the builder returns becomes uint8 images and one-hot labels, test set apart."""
    import tensorflow_datasets as tfds

    parts = {split: bars(num, seed=num) for split, num in (("train", 30), ("test", 20))}

    class Builder:
        info = SimpleNamespace(
            full_name="mnist/3.0.1",
            splits={split: SimpleNamespace(num_examples=len(labels)) for split, (_, labels) in parts.items()},
            features={"image": SimpleNamespace(shape=(12, 12, 1))},
        )
        data_path = tmp_path / "mnist" / "3.0.1"
        prepared = False

        def is_prepared(self):
            return self.prepared

        def download_and_prepare(self, download_dir):
            self.prepared = True

        def as_dataset(self, split, as_supervised, batch_size):
            assert self.prepared
            images, labels = parts[split]
            return tf.data.Dataset.from_tensor_slices((images[..., None], labels.astype(np.int64))).batch(7)

    monkeypatch.setattr(tfds, "builder", lambda name: Builder())
    dataset = load_dataset("mnist", tmp_path)
    assert np.array_equal(dataset.train.x[..., 0], parts["train"][0])
    assert np.array_equal(dataset.test.labels.argmax(axis=1), parts["test"][1])
    assert dataset.source == "TensorFlow Datasets mnist/3.0.1"
    assert f"downloading mnist/3.0.1 to {tmp_path}/mnist/3.0.1" in capsys.readouterr().out


def test_a_server_that_does_not_answer_is_given_up(tmp_path):
    """The real downloader against a local server that accepts the connection and then says nothing."""
    import requests
    from tensorflow_datasets.core.download import downloader

    before = requests.Session.request, downloader.MAX_RETRIES
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/train-images-idx3-ubyte.gz"
        started = time.perf_counter()
        with (
            pytest.raises(requests.exceptions.RequestException),
            downloads.impatient_downloads(connect_seconds=0.2, read_seconds=0.2, retries=1),
            downloader._open_url(url),
        ):
            pass
        assert time.perf_counter() - started < 10
    assert (requests.Session.request, downloader.MAX_RETRIES) == before
