"""What a dataset is, once it is loaded: training and held-out examples, their labels, where they came from."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from sources.readers import DataError, times

# Settings that suit data of a kind, where they are not those of grey images.
POINTS_DEFAULTS = {
    "network": "mlp",
    "hidden_dims": [128, 128, 128],
    "activation": "leaky_relu",
    "likelihood": "sigma",
    "latent_size": 2,
    "batch_size": 256,
    "num_epochs": 50,
    "sample_and_save_frequency": 10,
    "num_samples": 1000,
}
COLOUR_DEFAULTS = {"network": "conv", "likelihood": "sigma", "latent_size": 64, "num_epochs": 20}
DRAWINGS_LEARNING_RATE = 2e-3  # chosen on held-out training images of MNIST (README)
FEW = 10_000  # training images, up to which batches are smaller and epochs more
FEW_BATCH_SIZE, FEW_STEPS, MOST_EPOCHS = 32, 1500, 100
MOST_GREYNESS = 0.4  # of near-binary images


@dataclasses.dataclass(frozen=True)
class Examples:
    """x: images (n, height, width, channels) uint8 or points (n, 2) float32; labels (n, classes) uint8.

    The labels are one-hot; multi-hot where an example has several binary labels; of width 0 where it has none.
    """

    x: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index) -> "Examples":
        return Examples(self.x[index], self.labels[index])

    def random_choice(self, num: int, seed: int) -> "Examples":
        """`num` of the examples, or all if they are fewer, in a random order: files may be sorted."""
        return self[np.random.default_rng(seed).permutation(len(self))[:num]]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training examples, and the held-out ones that figures are reported on."""

    name: str
    source: str
    train: Examples
    test: Examples
    class_names: tuple[str, ...] = ()
    split: str = "test"
    notes: tuple[str, ...] = ()  # what its user should know of it

    @property
    def data_shape(self) -> tuple[int, ...]:
        """(height, width, channels), or (2,) for points."""
        return self.train.x.shape[1:]

    @property
    def is_points(self) -> bool:
        return len(self.data_shape) == 1

    @property
    def num_classes(self) -> int:
        return self.train.labels.shape[1]

    def defaults(self, batch_size: int | None = None) -> dict[str, Any]:
        """Settings for a good first result, by the names of flags, where they are not the flags' own.

        `batch_size`, if it was asked for, decides with the number of examples about the number of epochs.
        """
        if self.is_points:
            return POINTS_DEFAULTS
        settings = {**COLOUR_DEFAULTS} if self.data_shape[-1] == 3 else {}
        if not self.is_near_binary():
            settings["likelihood"] = "sigma"
        if len(self.train) <= FEW:
            settings["batch_size"] = min(batch_size or FEW_BATCH_SIZE, len(self.train))
            epochs = FEW_STEPS // (len(self.train) // settings["batch_size"])
            settings["num_epochs"] = min(max(epochs, settings.get("num_epochs", 10)), MOST_EPOCHS)
            settings["sample_and_save_frequency"] = max(5, settings["num_epochs"] // 5)
        elif not settings:  # many grey drawings
            settings["learning_rate"] = DRAWINGS_LEARNING_RATE
        return settings

    def is_near_binary(self) -> bool:
        """Whether most pixels are black or white, as in drawings and not in photographs.

        The mean of 4 x (1 - x), 1 for medium grey, is 0.1 for MNIST, 0.3 for Fashion-MNIST, 0.8 for X-rays. To a
        Bernoulli likelihood one medium grey is nearly as good as another: its models hardly tell photographs apart.
        """
        pixels = self.train.x[:1000].reshape(-1)
        x = pixels[:: max(1, pixels.size // 10**6)] / 255.0
        return bool(np.mean(4 * x * (1 - x)) < MOST_GREYNESS)

    def mean(self) -> np.ndarray:
        """The mean of the training examples. That of images is in [0, 1], each pixel drawn a little towards grey so
        that none is 0 or 1."""
        mean = self.train.x.mean(axis=0, dtype=np.float64)
        if not self.is_points:
            num = len(self.train)
            mean = (mean / 255.0 * num + 0.5) / (num + 1)
        return mean.astype(np.float32)

    def fingerprint(self) -> str:
        """A short checksum of all examples and labels in their order: the same data from another source may differ."""
        checksum = 0
        for part in (self.train.x, self.train.labels, self.test.x, self.test.labels):
            checksum = zlib.crc32(np.ascontiguousarray(part), checksum)
        return f"{checksum:08x}"

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

    def describe(self) -> str:
        """One line: where it is from, how many examples of what size and which classes."""
        size = "points in the plane" if self.is_points else times(self.data_shape[:2])
        if not self.is_points:
            size += " grey images" if self.data_shape[-1] == 1 else " colour images"
        kind = "classes" if not self.has_several_labels() else "labels, several at a time"
        names = list(self.class_names[:10]) + ["..."] * (self.num_classes > 10)
        classes = f"{self.num_classes} {kind} ({', '.join(names)})" if self.num_classes else "no classes"
        return (
            f"{self.name} from {self.source}: {size}, {len(self.train):,} for training and {len(self.test):,} for "
            f"{self.split}, {classes}"
        )

    def has_several_labels(self) -> bool:
        """Whether there are labels, and not exactly one an example."""
        return any(self.num_classes and np.any(part.labels.sum(axis=1) != 1) for part in (self.train, self.test))


def make_dataset(
    name: str,
    source: str,
    splits: dict[str, tuple[np.ndarray, np.ndarray | None]],
    class_names: Sequence[str] = (),
    **more,
) -> Dataset:
    """A dataset from x and labels of "train" and "test"; labels are class numbers, multi-hot vectors, or None.

    Raises:
        DataError: if the labels of "train" and "test" do not fit together, or not `class_names`.
    """
    (train_x, train_labels), (test_x, test_labels) = splits["train"], splits["test"]
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"{name} ({source}) has training images of {times(train_x.shape[1:])} "
            f"and test images of {times(test_x.shape[1:])}"
        )
    if (train_labels is None) != (test_labels is None):
        raise DataError(f"{name} ({source}) has labels for only one of its training and test examples")
    if train_labels is None:
        train_labels, test_labels = (np.zeros((len(x), 0), np.uint8) for x in (train_x, test_x))
    elif train_labels.shape[1:] != test_labels.shape[1:]:
        raise DataError(f"{name} ({source}) has training labels of another kind or number than its test labels")
    elif train_labels.ndim == 1:
        num_classes = max(int(train_labels.max()) + 1, len(class_names))
        if test_labels.max() >= num_classes:
            raise DataError(f"{name} ({source}) has test examples of class {test_labels.max()}, but none to train on")
        one_hot = np.eye(num_classes, dtype=np.uint8)
        train_labels, test_labels = one_hot[train_labels], one_hot[test_labels]
    num_classes = train_labels.shape[1]
    if class_names and len(class_names) != num_classes:
        raise DataError(f"{name} ({source}) has {num_classes} classes, not {len(class_names)}")
    names = tuple(class_names) or tuple(map(str, range(num_classes)))
    return Dataset(name, source, Examples(train_x, train_labels), Examples(test_x, test_labels), names, **more)


def class_numbers(labels: np.ndarray, class_names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Labels (n, classes) as one number an example, and the name of each; with two more names for multi-hot labels."""
    counts = labels.sum(axis=1)
    several = np.where(counts == 0, len(class_names), len(class_names) + 1)
    return np.where(counts == 1, labels.argmax(axis=1), several), [*class_names, "none", "several"]
