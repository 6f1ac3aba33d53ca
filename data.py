"""What a dataset is, and the table of datasets: a name or path -> arrays. A new dataset is a new row of DATASETS."""

import dataclasses
import difflib
import functools
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sources.examples import NO_LABEL, Examples, RawData
from sources.named import load_local_or_tfds, load_medmnist, load_mnist_sample, load_toy_set
from sources.own_data import load_own, read_arrays
from sources.readers import (
    DataError,
    OutOfReachError,  # noqa: F401, for those who call load_dataset
    read_cifar10,
    read_svhn,
    times,
)

if TYPE_CHECKING:  # it imports Pillow
    from sources.streams import Stream

# A row: a function of the name, the folder of local files and whether the network is forbidden.
DATASETS: dict[str, Callable[[str, pathlib.Path, bool], RawData]] = {
    "mnist": load_local_or_tfds,
    "mnist_sample": load_mnist_sample,
    "fashion_mnist": functools.partial(
        load_local_or_tfds,
        class_names="T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, boot".split(", "),
    ),
    "kmnist": functools.partial(load_local_or_tfds, class_names="o, ki, su, tsu, na, ha, ma, ya, re, wo".split(", ")),
    "cifar10": functools.partial(
        load_local_or_tfds,
        read_local=read_cifar10,
        files="its binary version (data_batch_1.bin, ..., test_batch.bin)",
        class_names="airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck".split(", "),
    ),
    "svhn": functools.partial(
        load_local_or_tfds, read_local=read_svhn, files="train_32x32.mat and test_32x32.mat", tfds_name="svhn_cropped"
    ),
    "chestmnist": functools.partial(
        load_medmnist,
        md5="02c8a6516a18b556561a56cbdd36c4a8",
        class_names="atelectasis, cardiomegaly, effusion, infiltration, mass, nodule, pneumonia, pneumothorax, "
        "consolidation, edema, emphysema, fibrosis, pleural, hernia".split(", "),
    ),
    "octmnist": functools.partial(
        load_medmnist,
        md5="c68d92d5b585d8d81f7112f81e2d0842",
        class_names="neovascularization, macular edema, drusen, normal".split(", "),
    ),
    "tissuemnist": functools.partial(
        load_medmnist,
        md5="ebe78ee8b05294063de985d821c1c34b",
        class_names="collecting duct, distal tubule, glomerular, endothelial, leukocytes, podocytes, proximal tubule, "
        "ascending limb".split(", "),
    ),
    "pneumoniamnist": functools.partial(
        load_medmnist, md5="28209eda62fecd6e6a2d98b1501bb15f", class_names=["normal", "pneumonia"]
    ),
    "moons": functools.partial(load_toy_set, noise=0.05),
    "circles": functools.partial(load_toy_set, noise=0.05, factor=0.5),
    "blobs": functools.partial(load_toy_set, centers=3, cluster_std=0.6),
}
NOISE, NUM_NOISE = "noise", 10_000
LEAST_SIMILARITY = 0.75  # of a name and the suggested one: minst and mnist have 0.80, omniglot and octmnist 0.62
ALIASES = {"fashionmnist": "fashion_mnist"}

FEW = 10_000  # training images, up to which batches are smaller and epochs more
FEW_TESTED = 50  # fewer test images than these measure no error
NO_LABELS = (
    "no label is known, so the classes of the model are clusters in an order of their own: only the error matches them "
    "to those of the data, other figures and pictures that take a label do not"
)
MOST_GREYNESS = 0.4  # of near-binary images


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training examples, and the test or validation examples that figures are reported on.

    is_partly_labelled: whether some training examples have no label, though every example is of one class.
    """

    name: str
    source: str
    train: Examples
    test: Examples
    class_names: tuple[str, ...] = ()
    split: str = "test"
    notes: tuple[str, ...] = ()  # what the user should know about the data
    is_partly_labelled: bool = False

    @property
    def data_shape(self) -> tuple[int, ...]:
        """(height, width, channels), or (2,) for points."""
        return self.train.x.shape[1:]

    @property
    def hides_all_labels(self) -> bool:
        """Whether training knows no label, so that the classes of a model are clusters in an order of their own."""
        return self.is_partly_labelled and not len(self.labelled)

    @property
    def names_in_model(self) -> tuple[str, ...]:
        """The names of a model's classes: those of the data, unless they are clusters."""
        if self.hides_all_labels:
            return tuple(f"cluster {number}" for number in range(self.num_classes))
        return self.class_names

    @property
    def is_points(self) -> bool:
        return len(self.data_shape) == 1

    @property
    def num_classes(self) -> int:
        return self.train.labels.shape[1]

    @property
    def is_small(self) -> bool:
        """Whether there are so few training examples that smaller batches and more epochs suit them."""
        return len(self.train) <= FEW

    def kind(self) -> str:
        """What the data look like: "points", "colour", or of grey images "drawings" (near binary) or "photographs"."""
        if self.is_points:
            return "points"
        if self.data_shape[-1] == 3:
            return "colour"
        return "drawings" if self.is_near_binary() else "photographs"

    def is_near_binary(self) -> bool:
        """Whether most pixels are nearly black or nearly white, as in drawings.

        The mean of 4 x (1 - x), which is 1 for medium grey, is 0.1 for MNIST, 0.3 for Fashion-MNIST, 0.8 for X-rays.
        A Bernoulli likelihood hardly distinguishes one medium grey from another, so it does not suit photographs.
        """
        pixels = self.train.x[:1000].reshape(-1)
        x = pixels[:: max(1, pixels.size // 10**6)] / 255.0
        return bool(np.mean(4 * x * (1 - x)) < MOST_GREYNESS)

    def mean(self) -> np.ndarray:
        """The mean of the training examples. Pixels are in [0, 1] and moved a little towards grey, so that none is 0
        or 1."""
        mean = self.train.x.mean(axis=0, dtype=np.float64)
        if not self.is_points:
            num = len(self.train)
            mean = (mean / 255.0 * num + 0.5) / (num + 1)
        return mean.astype(np.float32)

    def fingerprint(self) -> str:
        """A checksum of all examples and labels in their order. The same data from another source may have another
        order, and so another checksum.

        A checkpoint stores it for the dataset that it was trained on, after `hold_out(n)`. To see whether a whole
        dataset is that one, so that its test set may be used, compare `dataset.hold_out(n).fingerprint()`: for n > 0
        it covers all training examples and no test examples.
        """
        checksum = 0
        for part in (self.train.x, self.train.labels, self.test.x, self.test.labels):
            checksum = zlib.crc32(np.ascontiguousarray(part), checksum)
        return f"{checksum:08x}"

    def hold_out(self, num: int) -> "Dataset":
        """Take the last `num` training examples out of training, to replace the test set. 0 changes nothing.

        The arrays are shared with this dataset, not copied, unless only some examples have a label: then the last
        `num` of these are taken.

        Raises:
            DataError: if that leaves nothing to train on.
        """
        if not num:
            return self
        usable = self.labelled if self.is_partly_labelled else np.arange(len(self.train))
        if num >= len(usable):
            kind = "labelled training examples" if self.is_partly_labelled else "training examples"
            raise DataError(f"--validation_size {num} leaves none of the {len(usable)} {kind} of {self.name}")
        if self.is_partly_labelled:
            train, test = self.train[np.delete(np.arange(len(self.train)), usable[-num:])], self.train[usable[-num:]]
        else:
            train, test = self.train[:-num], self.train[-num:]
        notes = self.notes + untrained_classes_note(train.labels, test.labels, self.class_names, "validation")
        return dataclasses.replace(self, train=train, test=test, split="validation", notes=notes)

    @property
    def labelled(self) -> np.ndarray:
        """The row numbers of the training examples that have a label."""
        return np.flatnonzero(self.train.labels.any(axis=1))

    def hide_labels(self, num: int | None, seed: int) -> "Dataset":
        """Keep the labels of `num` training examples, as many of each class as far as there are, and hide the others.
        None changes nothing.

        Raises:
            DataError: if examples have several labels or none, there are not so many labels, or fewer than classes.
        """
        if num is None:
            return self
        if not self.num_classes or self.has_several_labels():
            what = "several labels at a time" if self.num_classes else "no labels"
            raise DataError(f"--num_labels needs examples of one class each, and {self.name} has {what}")
        rows = self.labelled
        if num > len(rows):
            raise DataError(f"--num_labels {num}: {self.name} has only {len(rows)} labelled training examples")
        classes = self.train.labels[rows].argmax(axis=1)
        num_classes = len(np.unique(classes))
        if 0 < num < num_classes:
            raise DataError(f"--num_labels {num} is fewer than one for each of {num_classes} classes of {self.name}")
        order = np.random.default_rng(seed).permutation(len(rows))
        rank = np.empty(len(rows), np.int64)  # of each among those of its class, in this order
        for number in np.unique(classes):
            of_class = order[classes[order] == number]
            rank[of_class] = np.arange(len(of_class))
        kept = rows[order[np.argsort(rank[order], kind="stable")][:num]]
        labels = np.zeros_like(self.train.labels)
        labels[kept] = self.train.labels[kept]
        train, notes = Examples(self.train.x, labels), self.notes + (() if num else (NO_LABELS,))
        return dataclasses.replace(self, train=train, notes=notes, is_partly_labelled=num < len(self.train))

    def class_probs(self) -> np.ndarray | None:
        """How frequent each class is among the labelled training examples, (classes,), uniform if there are none; None
        where examples have several labels or none."""
        if not self.num_classes or self.has_several_labels():
            return None
        if not self.train.labels.any():
            return np.full(self.num_classes, 1 / self.num_classes)
        return self.train.labels.sum(axis=0, dtype=np.float64) / self.train.labels.sum()

    def class_prior(self) -> np.ndarray:
        """p(y) as the labelled training examples suggest it, (classes,): each class is counted once more than it is
        there, so that none is impossible."""
        counts = self.train.labels.sum(axis=0, dtype=np.float64) + 1
        return counts / counts.sum()

    def describe(self) -> str:
        """One line: its source, the number and size of its examples, its classes."""
        size = "points in the plane" if self.is_points else times(self.data_shape[:2])
        if not self.is_points:
            size += " grey images" if self.data_shape[-1] == 1 else " colour images"
        kind = "classes" if not self.has_several_labels() else "labels, several at a time"
        names = list(self.class_names[:10]) + ["..."] * (self.num_classes > 10)
        classes = f"{self.num_classes} {kind} ({', '.join(names)})" if self.num_classes else "no classes"
        return (
            f"{self.name} from {self.source}: {size}, {len(self.train):,} for training and {len(self.test):,} for "
            f"{self.split}, {classes}"
            + (f", labels of {len(self.labelled):,} training examples" if self.is_partly_labelled else "")
        )

    def has_several_labels(self) -> bool:
        """Whether there are labels, and some example may have more than one, or none at all."""
        if not self.num_classes:
            return False
        labels = self.train.labels[self.labelled] if self.is_partly_labelled else self.train.labels
        return any(np.any(part.sum(axis=1) != 1) for part in (labels, self.test.labels))


def make_dataset(name: str, raw: RawData) -> Dataset:
    """A dataset with one-hot or multi-hot labels.

    Raises:
        DataError: if the training and test examples do not fit together, or the labels not the class names.
    """
    source, class_names = raw.source, tuple(raw.class_names)
    (train_x, train_labels), (test_x, test_labels) = raw.splits["train"], raw.splits["test"]
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
    is_partly_labelled = False
    if train_labels.ndim == 1:
        is_partly_labelled = bool(np.any(train_labels == NO_LABEL))
        num_classes = max(int(train_labels.max()) + 1, len(class_names))
        if test_labels.max() >= num_classes:
            raise DataError(f"{name} ({source}) has test examples of class {test_labels.max()}, but none to train on")
        one_hot = np.eye(num_classes + 1, num_classes, dtype=np.uint8)  # the last row is that of NO_LABEL
        train_labels, test_labels = one_hot[train_labels], one_hot[test_labels]
    num_classes = train_labels.shape[1]
    if class_names and len(class_names) != num_classes:
        raise DataError(f"{name} ({source}) has {num_classes} classes, not {len(class_names)}")
    names = class_names or tuple(map(str, range(num_classes)))
    notes = raw.notes + untrained_classes_note(train_labels, test_labels, names, "test")
    if is_partly_labelled and len(test_x) < FEW_TESTED:
        notes += (f"only {len(test_x)} images for testing, so its error says little: give test images of their own",)
    train, test = Examples(train_x, train_labels), Examples(test_x, test_labels)
    return Dataset(name, source, train, test, names, notes=notes, is_partly_labelled=is_partly_labelled)


def untrained_classes_note(
    train_labels: np.ndarray, test_labels: np.ndarray, class_names: Sequence[str], split: str
) -> tuple[str, ...]:
    """A note on classes without training examples that the test or validation examples have, if there are any."""
    missing = np.flatnonzero(test_labels.any(axis=0) & ~train_labels.any(axis=0))
    if not missing.size:
        return ()
    names = [class_names[number] for number in missing[:10]] + ["..."] * (missing.size > 10)
    noun = "class" if missing.size == 1 else "classes"
    return (f"no training example is of {noun} {', '.join(names)}, but {split} examples are",)


def class_numbers(labels: np.ndarray, class_names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Labels (n, classes) as one number per example, and the name of each number. Two more numbers are for examples
    without a label ("none") and with more than one ("several")."""
    counts = labels.sum(axis=1)
    several = np.where(counts == 0, len(class_names), len(class_names) + 1)
    return np.where(counts == 1, labels.argmax(axis=1), several), [*class_names, "none", "several"]


def resolve_name(dataset: str, more_names: Sequence[str] = ()) -> str:
    """A name in DATASETS or `more_names` for a name or alias; the absolute path of a file or folder.

    Raises:
        DataError: if there is no such name, file or folder.
    """
    name = str(dataset).lower()
    name = ALIASES.get(name, name)
    names = [*DATASETS, *more_names]
    if name in names:
        return name
    path = pathlib.Path(dataset)
    if str(dataset) and path.exists():
        return str(path.resolve())
    if len(path.parts) > 1 or path.suffix:
        raise DataError(f"there is no file or folder {dataset}")
    near = nearest_name(name, [*names, *ALIASES])
    meant = f": did you mean {near}?" if near else "."
    raise DataError(f"unknown dataset '{dataset}'{meant} There are {', '.join(names)}, or the path of your own data")


def nearest_name(name: str, names: Sequence[str]) -> str | None:
    """The first of the names that begins with this one, else the most similar one, if one is similar enough."""
    longer = [candidate for candidate in names if len(name) >= 3 and candidate.startswith(name)]
    close = longer or difflib.get_close_matches(name, names, n=1, cutoff=LEAST_SIMILARITY)
    return close[0] if close else None


def is_path(dataset: str) -> bool:
    """Whether a resolved name is a path."""
    return dataset not in DATASETS


def short_name(dataset: str) -> str:
    """The name of a run on the dataset with this resolved name; for a path its last part."""
    return pathlib.Path(dataset).name.removesuffix(".npz").strip(".") or "data"


def load_dataset(
    dataset: str, data_dir: str = "data", *, image_size: tuple[int, int] | None = None, offline: bool = False
) -> Dataset:
    """The dataset with this name or path.

    Args:
        data_dir: where the local files of a named dataset are looked for first.
        image_size: (height, width) of the images, which are cropped to that shape and resized.
        offline: never use the network.

    Raises:
        DataError: for an unknown name, data that cannot be had, or a broken file.
    """
    name = resolve_name(dataset)
    if name not in DATASETS:
        return make_dataset(short_name(name), load_own(pathlib.Path(name), image_size))
    loaded = make_dataset(name, DATASETS[name](name, pathlib.Path(data_dir), offline))
    if image_size is None:
        return loaded
    if loaded.is_points:
        raise DataError(f"--image_size is for images, and {name} are points")
    from sources.image_folders import resized  # only where it is needed: it imports Pillow

    train, test = (Examples(resized(part.x, image_size), part.labels) for part in (loaded.train, loaded.test))
    return dataclasses.replace(loaded, train=train, test=test)


def load_others(dataset: str, data_dir: str, data_shape: Sequence[int], *, offline: bool = False) -> Dataset:
    """The test set of another dataset, or `noise`, in the shape that a model takes: images are resized, and converted
    to grey or to colour.

    Raises:
        DataError: for points where the model takes images or the reverse, and as `load_dataset` does.
    """
    data_shape, is_points = tuple(data_shape), len(data_shape) == 1
    if dataset == NOISE:
        rng = np.random.default_rng(0)
        x = rng.uniform(-2, 2, (NUM_NOISE, *data_shape)).astype(np.float32) if is_points else (
            rng.integers(0, 256, (NUM_NOISE, *data_shape), dtype=np.uint8)
        )  # fmt: skip
        return make_dataset(NOISE, RawData("uniform noise", {"train": (x[:1], None), "test": (x, None)}))
    name = resolve_name(dataset)
    image_size = None if is_points or not is_path(name) else data_shape[:2]  # named data may be points
    loaded = load_dataset(name, data_dir, image_size=image_size, offline=offline)
    if loaded.is_points != is_points:
        raise DataError(
            f"{short_name(name)} has {'points' if loaded.is_points else 'images'}, the model is of the other kind"
        )
    x = loaded.test.x
    if not is_points:
        from sources.image_folders import fitted  # only where it is needed: it imports Pillow

        x = fitted(x, data_shape)
    return dataclasses.replace(loaded, train=loaded.train[:0], test=Examples(x, loaded.test.labels))


def open_stream(
    dataset: str, data_dir: str, data_shape: Sequence[int], *, split: str | None = None, offline: bool = False
) -> "Stream":
    """The data with this name or path, also a single image, in the shape that a model takes: images are cropped and
    resized, and made grey or colour. A folder is read block by block.

    Args:
        split: "test", "train" or "all"; by default the test data, or everything where there is no split.

    Raises:
        DataError: for points where the model takes images or the reverse, for a split of data that have none, and as
            `load_dataset` does.
    """
    from sources import streams  # only where it is needed: it imports Pillow

    name = resolve_name(dataset)
    path, notes, splits = pathlib.Path(name), (), ["train", "test"]
    if not is_path(name):
        loaded = load_dataset(name, data_dir, offline=offline)
    elif path.suffix == ".npz" and path.is_file():
        raw = read_arrays(path)
        notes, splits = raw.notes, [part for part in splits if part in raw.splits]
        in_both = dict.fromkeys(("train", "test"), raw.splits.get("all"))  # the same arrays, not copied
        loaded = make_dataset(short_name(name), raw if splits else dataclasses.replace(raw, splits=in_both))
    else:
        return streams.open_files(path, short_name(name), data_shape, split)
    chosen, split = streams.choose_split(loaded.name, splits, split)
    parts = {part: getattr(loaded, part) for part in chosen or ["test"]}
    return streams.ArrayStream(loaded.name, loaded.source, parts, loaded.class_names, data_shape, split, notes)
