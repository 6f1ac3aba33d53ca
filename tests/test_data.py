import gzip
import socket
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED_MNIST, bars, write_idx

import data
from data import DataError, Examples, evaluation_batches, load_dataset, read_idx, training_batches


def examples(num=50, side=3):
    """Image i is filled with the value i, its label is one-hot of i modulo 5."""
    images = np.broadcast_to(np.arange(num, dtype=np.uint8)[:, None, None, None], (num, side, side, 1))
    return Examples(np.ascontiguousarray(images), np.eye(5, dtype=np.uint8)[np.arange(num) % 5])


def epoch_order(batches):
    return [round(float(image[0, 0, 0]) * 255) for x, _, _ in batches for image in x]


# IDX files


@pytest.mark.parametrize("ending", ["ubyte", "ubyte.gz"])
def test_idx_files_are_read_gzipped_or_not(tmp_path, ending):
    images, _ = bars(7, seed=0)
    path = tmp_path / f"images-idx3-{ending}"
    write_idx(path, images)
    assert np.array_equal(read_idx(path, 3), images)


def test_a_local_dataset_is_loaded_with_one_hot_labels(idx_folder):
    dataset = load_dataset("mnist", idx_folder)
    assert dataset.train.images.shape == (200, 12, 12, 1)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.test.labels.shape == (60, 10)
    assert np.array_equal(dataset.train.labels.argmax(axis=1), np.arange(200) % 10)
    assert (dataset.train.labels.sum(axis=1) == 1).all()


def corrupt(path, change):
    content = path.read_bytes()
    path.write_bytes(change(content))


@pytest.mark.parametrize(
    ("ending", "change", "message"),
    [
        ("ubyte", lambda b: b[:-5], "should hold 7x12x12 = 1008 bytes of data, but holds 1003"),
        ("ubyte", lambda b: b + b"x", "but holds 1009"),
        ("ubyte", lambda b: b[:9], "cut short: 9 bytes are not even its header"),
        ("ubyte", lambda b: b"\x00\x00\x08\x01" + b[4:], "magic number 2049, not 2051"),
        ("ubyte.gz", lambda b: b[: len(b) // 2], "not a whole gzip file"),
        ("ubyte.gz", lambda b: b[:30] + b"\x00\xff\x00" + b[33:], "not a whole gzip file"),
        ("ubyte.gz", lambda b: gzip.decompress(b), "not a whole gzip file"),
    ],
)
def test_a_broken_idx_file_is_named_with_what_is_wrong(tmp_path, ending, change, message):
    path = tmp_path / f"images-idx3-{ending}"
    write_idx(path, bars(7, seed=0)[0])
    corrupt(path, change)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)


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


@pytest.mark.skipif(not SHARED_MNIST.is_dir(), reason="needs the real MNIST files in ../shared/data/mnist")
def test_the_real_mnist_files():
    dataset = load_dataset("mnist", SHARED_MNIST)
    assert dataset.train.images.shape == (60_000, 28, 28, 1)
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    assert dataset.train.labels.argmax(axis=1)[:5].tolist() == [5, 0, 4, 1, 9]


# Other sources


def test_mnist_sample_needs_no_network_and_holds_out_a_fifth_of_each_class():
    dataset = load_dataset("mnist_sample")
    assert len(dataset.train) == 4000
    assert len(dataset.test) == 1000
    assert dataset.test.labels.sum(axis=0).tolist() == [100] * 10
    assert dataset.train.images.max() == 255
    train = {image.tobytes() for image in dataset.train.images}
    assert not any(image.tobytes() in train for image in dataset.test.images)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match="unknown dataset 'minst': choose from mnist, mnist_sample"):
        load_dataset("minst")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Nothing prepared by TensorFlow Datasets, and every connection refused."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    import tensorflow_datasets as tfds

    real_builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: real_builder(name, data_dir=tmp_path / "tfds"))

    def refuse(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_mnist_out_of_reach_is_told_soon_with_the_ways_to_get_it(no_network, tmp_path):
    started = time.perf_counter()
    with pytest.raises(data.OutOfReachError) as error:
        load_dataset("mnist", tmp_path)
    assert time.perf_counter() - started < 30
    for way in ("--data_dir", "train-images-idx3-ubyte.gz", "network", "--dataset mnist_sample", str(tmp_path)):
        assert way in str(error.value)
    assert "\n" not in str(error.value)


def test_tensorflow_datasets_is_the_source_where_there_are_no_files(monkeypatch, tmp_path):
    """Mocked at the boundary: what the builder returns becomes uint8 images and one-hot labels, test set apart."""
    import tensorflow_datasets as tfds

    class Builder:
        info = type("Info", (), {"full_name": "mnist/3.0.1"})
        prepared = False

        def download_and_prepare(self):
            Builder.prepared = True

        def as_dataset(self, batch_size, as_supervised):
            assert self.prepared
            parts = {split: bars(num, seed=num) for split, num in (("train", 30), ("test", 20))}
            return {k: (tf.constant(x[..., None]), tf.constant(y, tf.int64)) for k, (x, y) in parts.items()}

    monkeypatch.setattr(tfds, "builder", lambda name: Builder())
    dataset = load_dataset("mnist", tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (30, 20)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.shape == (30, 10)
    assert dataset.source == "TensorFlow Datasets mnist/3.0.1"


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
            data.impatient_downloads(connect_seconds=0.2, read_seconds=0.2, retries=1),
            downloader._open_url(url),
        ):
            pass
        assert time.perf_counter() - started < 10
    assert (requests.Session.request, downloader.MAX_RETRIES) == before


# Splits


def test_validation_holds_out_the_last_training_examples_and_drops_the_test_set(idx_folder):
    whole = load_dataset("mnist", idx_folder)
    held_out = whole.hold_out(30)
    assert held_out.split == "validation"
    assert np.array_equal(held_out.train.images, whole.train.images[:-30])
    assert np.array_equal(held_out.test.images, whole.train.images[-30:])
    with pytest.raises(DataError, match="leaves none"):
        whole.hold_out(200)


# Batches


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    epochs = training_batches(examples(), 10, seed=0, binarize="none")
    first, second = epoch_order(epochs(0)), epoch_order(epochs(1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second != list(range(50))
    again = training_batches(examples(), 10, seed=0, binarize="none")
    assert epoch_order(again(1)) == second
    assert epoch_order(training_batches(examples(), 10, seed=1, binarize="none")(0)) != first


def test_every_training_batch_is_whole_and_images_keep_their_labels():
    batches = list(training_batches(examples(), 16, seed=0, binarize="none")(0))
    assert [x.shape[0] for x, _, _ in batches] == [16, 16, 16]
    for x, labels, _ in batches:
        assert x.dtype == labels.dtype == tf.float32
        values = np.round(x.numpy()[:, 0, 0, 0] * 255).astype(int)
        assert np.array_equal(labels.numpy().argmax(axis=1), values % 5)


def test_no_two_steps_share_their_seed():
    epochs = training_batches(examples(), 10, seed=0, binarize="none")
    seeds = {tuple(seed.numpy()) for epoch in (0, 1) for _, _, seed in epochs(epoch)}
    seeds |= {tuple(seed.numpy()) for _, _, seed in evaluation_batches(examples(), seed=0, binarize="none")}
    assert len(seeds) == 11


def test_evaluation_sees_every_example_once_in_order_and_the_same_at_every_pass(monkeypatch):
    monkeypatch.setattr(data, "TEST_BATCH_SIZE", 20)
    batches = evaluation_batches(examples(), seed=0, binarize="dynamic")
    passes = [[tuple(part.numpy().tobytes() for part in batch) for batch in batches] for _ in range(2)]
    assert passes[0] == passes[1]
    assert epoch_order(evaluation_batches(examples(), seed=0, binarize="none")) == list(range(50))


def grey(value, num=400):
    return Examples(np.full((num, 5, 5, 1), value, np.uint8), np.zeros((num, 0), np.uint8))


def test_binarize_none_scales_to_the_unit_interval():
    x = next(iter(training_batches(grey(51), 400, seed=0, binarize="none")(0)))[0]
    np.testing.assert_allclose(x, 0.2)


def test_threshold_binarization_cuts_at_one_half():
    for value, expected in ((127, 0), (128, 1)):
        x = next(iter(training_batches(grey(value), 400, seed=0, binarize="threshold")(0)))[0]
        assert np.unique(x).tolist() == [expected]


def test_dynamic_binarization_draws_each_pixel_anew_with_its_grey_value_as_probability():
    epochs = training_batches(grey(64), 400, seed=0, binarize="dynamic")
    first, second = (next(iter(epochs(epoch)))[0].numpy() for epoch in (0, 1))
    assert np.unique(first).tolist() == [0, 1]
    assert first.mean() == pytest.approx(64 / 255, abs=0.02)
    assert not np.array_equal(first, second)
    again = next(iter(training_batches(grey(64), 400, seed=0, binarize="dynamic")(1)))[0]
    assert np.array_equal(again, second)
