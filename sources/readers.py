"""Data files -> arrays: IDX, NumPy archives, and the formats in which CIFAR-10 and SVHN are published.

Nothing is ever unpickled. Large arrays are read straight into aligned memory, which TensorFlow uses without a copy.
"""

import contextlib
import gzip
import math
import pathlib
import struct
import zipfile
from collections.abc import Sequence

import numpy as np

from sources.examples import NO_LABEL
from storage.errors import UserError

ALIGNMENT = 64  # bytes
DARK = 64  # if no pixel is as bright, the range of the values was probably misunderstood
CHUNK = 16 * 2**20  # bytes that are read or converted at a time
IDX_STEMS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
MAX_CLASSES = 1000
MAX_INFLATION = 1032  # gzip and zip make at most so many bytes of one: a small file cannot claim all memory


class DataError(UserError):
    """A dataset cannot be loaded or is not what it should be; the message says which, where, and what to do."""


class OutOfReachError(DataError):
    """A dataset is not on this machine and cannot be downloaded."""


@contextlib.contextmanager
def reading(path: pathlib.Path, what: str):
    """Turn whatever a library raises for a broken file into a DataError of one line that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # damaged files make libraries raise nearly anything
        raise DataError(f"{path} cannot be read as {what}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of an exception's message; its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def aligned_empty(shape: Sequence[int], dtype=np.uint8) -> np.ndarray:
    """An uninitialized array that begins at a multiple of ALIGNMENT."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def fill(array: np.ndarray, stream) -> int:
    """Read an array's bytes from a stream; returns how many bytes the stream had."""
    target = memoryview(array.reshape(-1).view(np.uint8))
    done = 0
    while done < len(target):
        count = stream.readinto(target[done : done + CHUNK])
        if not count:
            break
        done += count
    return done


# IDX files


def find_idx_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """A folder's IDX files, by stem. Of a plain and a gzipped file with the same stem, the plain one."""
    candidates = {stem: [folder / f"{stem}-ubyte", folder / f"{stem}-ubyte.gz"] for stem in IDX_STEMS}
    present = {stem: [path for path in paths if path.is_file()] for stem, paths in candidates.items()}
    return {stem: paths[0] for stem, paths in present.items() if paths}


def read_idx(path: pathlib.Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes, gzipped if it ends in .gz.

    Raises:
        DataError: if it is not such a file, is cut short, or is longer than its header says.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with reading(path, "an IDX file"), opened(path, "rb") as stream:
        header = stream.read(4 + 4 * dimensions)
        if len(header) < 4 + 4 * dimensions:
            raise DataError(f"{path} is cut short: {len(header)} bytes are not even its header")
        magic = 0x0800 + dimensions  # 0x08: unsigned bytes
        found, *shape = struct.unpack(f">{1 + dimensions}I", header)
        if found != magic:
            raise DataError(
                f"{path} is not an IDX file of {dimensions}-dimensional bytes: magic number {found}, not {magic}"
            )
        expected = math.prod(shape)
        held = path.stat().st_size - len(header)
        if not expected or expected > held * (1 if opened is open else MAX_INFLATION):
            raise DataError(f"{path} should hold {times(shape)} = {expected} bytes of data, but holds {held}")
        array = aligned_empty(shape)
        held = fill(array, stream)
        if held < expected or stream.read(1):
            more = "more" if held == expected else held
            raise DataError(f"{path} should hold {times(shape)} = {expected} bytes of data, but holds {more}")
    return array


def read_idx_files(folder: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Images and labels of "train" and "test" from the four IDX files in a folder, if there are any.

    Raises:
        DataError: if one is missing or broken, or they do not fit together.
    """
    files = find_idx_files(folder)
    if not files:
        return None
    missing = [stem for stem in IDX_STEMS if stem not in files]
    if missing:
        raise DataError(f"{folder} has only some of its IDX files: {missing[0]}-ubyte(.gz) is missing")
    splits = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = read_idx(files[f"{stem}-images-idx3"], dimensions=3)
        labels = read_idx(files[f"{stem}-labels-idx1"], dimensions=1)
        if len(images) != len(labels):
            raise DataError(f"{files[f'{stem}-labels-idx1']} has {len(labels)} labels for {len(images)} images")
        splits[split] = images[..., np.newaxis], labels
    return splits


def times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# NumPy archives


def read_npz(path: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz archive that have one of these names.

    Raises:
        DataError: if it is no such archive, is damaged, or an array holds Python objects.
    """
    with reading(path, "an .npz archive"), zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        return {name: read_npy(path, archive, name) for name in names if f"{name}.npy" in members}


def read_npy(path: pathlib.Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array of an .npz archive, in aligned memory. (TensorFlow would copy what np.load returns.)"""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: '{name}' is not compressed as NumPy does it: save it with numpy.savez_compressed")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):  # later versions are for named columns and for very long headers
            raise DataError(f"{path}: '{name}' is in version {version} of NumPy's format, which is not supported")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject:
            raise DataError(f"{path}: '{name}' holds Python objects, which are never unpickled: save a plain array")
        if any(length < 0 for length in shape):
            raise DataError(f"{path}: '{name}' has shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        stored = min(member.file_size, path.stat().st_size * MAX_INFLATION)
        if size > stored:
            raise DataError(f"{path}: '{name}' should hold {size} bytes, but the file has {stored}")
        array = aligned_empty(shape[::-1] if is_fortran else shape, dtype)
        if fill(array, stream) < size:
            raise DataError(f"{path}: '{name}' is cut short")
        if stream.read(1):  # zipfile compares the checksum at the end
            raise DataError(f"{path}: '{name}' should hold {size} bytes, but the file has more")
    return array.T if is_fortran else array


def uint8_images(path: pathlib.Path, name: str, array: np.ndarray) -> np.ndarray:
    """Images as (n, height, width, channels) uint8, from bytes, whole numbers in 0..255, or floats in [0, 1].

    Raises:
        DataError: for another shape or type, numbers out of range, or NaN.
    """
    if array.ndim not in (3, 4) or array.size == 0:
        raise DataError(
            f"{path}: '{name}' has shape {array.shape}, not (number, height, width) or (..., height, width, channels)"
        )
    images = array[..., np.newaxis] if array.ndim == 3 else array
    if images.shape[-1] not in (1, 3):
        raise DataError(f"{path}: '{name}' has shape {array.shape}: the last number, of channels, must be 1 or 3")
    if images.dtype == np.uint8 and images.flags.c_contiguous:
        return images
    kind = images.dtype.kind
    if kind not in "uibf":
        raise DataError(f"{path}: '{name}' holds {images.dtype}, not numbers")
    highest = 255 if kind in "ui" else 1
    converted = aligned_empty(images.shape)
    rows = max(1, CHUNK // images[0].nbytes)
    for start in range(0, len(images), rows):
        chunk = images[start : start + rows]
        if np.isnan(chunk).any():
            first = start + int(np.isnan(chunk).reshape(len(chunk), -1).any(axis=1).argmax())
            raise DataError(f"{path}: '{name}' has NaN in image {first}")
        if chunk.min() < 0 or chunk.max() > highest:
            raise DataError(
                f"{path}: '{name}' holds numbers from {chunk.min():g} to {chunk.max():g}: "
                + ("whole numbers must lie in 0 to 255" if highest == 255 else "floats must lie in [0, 1]")
            )
        converted[start : start + rows] = chunk if highest == 255 else np.rint(chunk * 255.0)
    return converted


def class_labels(path: pathlib.Path, name: str, array: np.ndarray, num_images: int) -> np.ndarray:
    """Class numbers (n,), of which some may be NO_LABEL, or multi-hot vectors (n, labels) uint8 for images with several
    binary labels.

    Raises:
        DataError: for another number of labels than images, or anything but class numbers or zeros and ones.
    """
    if array.ndim not in (1, 2) or array.dtype.kind not in "uibf":
        raise DataError(
            f"{path}: '{name}' has shape {array.shape} and type {array.dtype}, not one class number per image"
        )
    if len(array) != num_images:
        raise DataError(f"{path}: '{name}' has {len(array)} labels for {num_images} images")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    lowest, highest = (NO_LABEL, MAX_CLASSES - 1) if array.ndim == 1 else (0, 1)
    if not np.all((array >= lowest) & (array <= highest) & (array == np.rint(array))):
        raise DataError(
            f"{path}: '{name}' must hold "
            + (
                f"whole class numbers from 0 to {highest}, or {NO_LABEL} where there is no label"
                if array.ndim == 1
                else "zeros and ones where images have several labels"
            )
        )
    return array.astype(np.int64 if array.ndim == 1 else np.uint8)


# CIFAR-10 and SVHN, in the formats in which their authors publish them


def read_cifar10(folder: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Images and labels of "train" and "test" from the binary version (data_batch_1.bin, ...), if it is there."""
    files = {"train": [folder / f"data_batch_{i}.bin" for i in range(1, 6)], "test": [folder / "test_batch.bin"]}
    if not any(path.is_file() for path in [*files["train"], *files["test"]]):
        return None
    return {split: read_cifar10_batches(paths) for split, paths in files.items()}


def read_cifar10_batches(paths: Sequence[pathlib.Path]) -> tuple[np.ndarray, np.ndarray]:
    """Files of records: a byte for the class, then the red, green and blue values of 32 x 32 pixels."""
    with reading(paths[0].parent, "CIFAR-10"):
        sizes = [path.stat().st_size for path in paths]
    for path, size in zip(paths, sizes, strict=True):
        if size % 3073 or not size:
            raise DataError(f"{path} should hold records of 3,073 bytes, but holds {size:,} bytes")
    num = sum(sizes) // 3073
    images, labels = aligned_empty((num, 32, 32, 3)), np.empty(num, np.uint8)
    start = 0
    for path in paths:
        records = np.fromfile(path, np.uint8).reshape(-1, 3073)
        rows = slice(start, start + len(records))
        images[rows] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels[rows] = records[:, 0]
        start += len(records)
        if records[:, 0].max() > 9:
            raise DataError(f"{path} has classes beyond 9")
    return images, labels


def read_svhn(folder: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Images and labels of "train" and "test" from train_32x32.mat and test_32x32.mat, if they are there."""
    from scipy.io import loadmat

    splits = {}
    for split in ("train", "test"):
        path = folder / f"{split}_32x32.mat"
        if not path.is_file():
            return None
        with reading(path, "SVHN's MATLAB file"), path.open("rb") as file:
            if file.read(10) != b"MATLAB 5.0":  # scipy takes any other file for version 4
                raise ValueError("it is not of version 5")
            content = loadmat(path, variable_names=["X", "y"])
            stored, labels = content["X"], content["y"].reshape(-1)
            if stored.dtype != np.uint8 or stored.shape[:-1] != (32, 32, 3) or not stored.size:
                raise ValueError(f"X is {stored.dtype} of shape {stored.shape}")
            labels = class_labels(path, "y", labels, stored.shape[-1])
            for number in (labels.min(), labels.max()):
                if not 0 <= number <= 10:
                    raise ValueError(f"y holds {number}")
        images = aligned_empty((stored.shape[-1], *stored.shape[:-1]))
        images[:] = stored.transpose(3, 0, 1, 2)
        splits[split] = images, labels % 10  # the digit 0 is stored as 10
    return splits
