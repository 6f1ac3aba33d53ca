"""Files of every kind that is read, whole and broken in every way that users meet."""

import gzip
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from conftest import SHARED_MNIST, bars, write_idx

from sources.readers import (
    DataError,
    aligned_empty,
    class_labels,
    read_cifar10,
    read_idx,
    read_npz,
    read_svhn,
    uint8_images,
)

# IDX files


@pytest.mark.parametrize("ending", ["ubyte", "ubyte.gz"])
def test_idx_files_are_read_gzipped_or_not(tmp_path, ending):
    images, _ = bars(7, seed=0)
    path = tmp_path / f"images-idx3-{ending}"
    write_idx(path, images)
    assert np.array_equal(read_idx(path, 3), images)


@pytest.mark.parametrize(
    ("ending", "change", "message"),
    [
        ("ubyte", lambda b: b[:-5], "should hold 7x12x12 = 1008 bytes of data, but holds 1003"),
        ("ubyte", lambda b: b + b"x", "but holds more"),
        ("ubyte", lambda b: b[:9], "cut short: 9 bytes are not even its header"),
        ("ubyte", lambda b: b"", "cut short: 0 bytes"),
        ("ubyte", lambda b: b"\x00\x00\x08\x01" + b[4:], "magic number 2049, not 2051"),
        ("ubyte", lambda b: b[:4] + struct.pack(">I", 0) + b[8:], "should hold 0x12x12 = 0 bytes"),
        ("ubyte", lambda b: b[:4] + b"\xff\xff\xff\xff" * 3 + b[16:], "should hold 4294967295x"),
        ("ubyte.gz", lambda b: b[: len(b) // 2], "cannot be read as an IDX file: Compressed file ended"),
        ("ubyte.gz", lambda b: b[:-4], "cannot be read as an IDX file: Compressed file ended"),
        ("ubyte.gz", lambda b: b[:30] + b"\x00\xff\x00" + b[33:], "cannot be read as an IDX file"),
        ("ubyte.gz", lambda b: b[:-8] + b"\x00\xff\x00\x01" + b[-4:], "CRC check failed"),
        ("ubyte.gz", lambda b: gzip.decompress(b), "Not a gzipped file"),
        ("ubyte.gz", lambda b: gzip.compress(gzip.decompress(b)[:-5]), "but holds 1003"),
        (
            "ubyte.gz",
            lambda b: gzip.compress(struct.pack(">4I", 2051, 10**4, 1000, 1000)),
            "should hold 10000x1000x1000",
        ),
    ],
)
def test_a_broken_idx_file_is_named_with_what_is_wrong(tmp_path, ending, change, message):
    path = tmp_path / f"images-idx3-{ending}"
    write_idx(path, bars(7, seed=0)[0])
    path.write_bytes(change(path.read_bytes()))
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as error:
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not SHARED_MNIST.is_dir(), reason="needs the real MNIST files in ../shared/data/mnist")
def test_a_real_file_cut_anywhere_is_refused(tmp_path):
    content = (SHARED_MNIST / "t10k-labels-idx1-ubyte.gz").read_bytes()
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    for tenth in range(10):
        path.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(DataError, match=path.name):
            read_idx(path, 1)


# NumPy archives


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npz_is_read_as_numpy_reads_it(tmp_path, save, order):
    rng = np.random.default_rng(0)
    arrays = {
        "images": np.asarray(rng.integers(0, 256, (30, 5, 4, 3), dtype=np.uint8), order=order),
        "labels": rng.integers(0, 9, 30),
        "scores": np.asarray(rng.normal(size=(4, 6)).astype(np.float32), order=order),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz", ["scores", "images", "absent", "labels"])
    assert found.keys() == arrays.keys()
    for name, array in found.items():
        assert array.dtype == arrays[name].dtype
        assert np.array_equal(array, arrays[name])


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("was unpickled",))

    path = tmp_path / "bomb.npz"
    np.savez(path, images=np.array([Bomb(), Bomb()], dtype=object))
    with pytest.raises(DataError, match=r"bomb.npz: 'images' holds Python objects, which are never unpickled"):
        read_npz(path, ["images"])


def test_an_npz_that_is_damaged_anywhere_is_refused(tmp_path):
    """Cut at every twentieth of its length, and with single bytes changed: never other numbers than were saved."""
    path = tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
    np.savez_compressed(path, images=images)
    content = path.read_bytes()
    for part in range(20):
        path.write_bytes(content[: len(content) * part // 20])
        with pytest.raises(DataError, match=r"a\.npz"):
            read_npz(path, ["images"])
    refused = 0
    for position in range(0, len(content), len(content) // 150):
        changed = bytearray(content)
        changed[position] ^= 0x55
        path.write_bytes(changed)
        try:
            found = read_npz(path, ["images"])
        except DataError:
            refused += 1
        else:
            assert "images" not in found or np.array_equal(found["images"], images), f"byte {position}"
    assert refused > 100


def test_an_npz_whose_header_asks_for_more_than_there_is_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=np.zeros((3, 2, 2), np.uint8))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("images.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content.replace(b"(3, 2, 2)", b"(9, 9, 9)"))
        archive.writestr("other.npy", content[:-1])
    with pytest.raises(DataError, match="'images' should hold 729 bytes, but the file has 140"):
        read_npz(path, ["images"])
    with pytest.raises(DataError, match="'other' is cut short"):
        read_npz(path, ["other"])


def write_npy(path, shape, data, version=b"\x01\x00", method=zipfile.ZIP_STORED):
    """An .npz with an array of bytes, `shape` as its header has it."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY" + version + length + header + data, method)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"shape": "(-1, 4, 4)"}, r"'images' has shape \(-1, 4, 4\)"),
        ({"shape": "(-2, -3, 4)"}, r"'images' has shape \(-2, -3, 4\)"),
        ({"shape": "(2, 4, 4)"}, "'images' should hold 32 bytes, but the file has more"),
        ({"shape": "(10000000000,)"}, "'images' should hold 10000000000 bytes"),
        ({"shape": "(3, 4, 4)", "method": zipfile.ZIP_LZMA}, "'images' is not compressed as NumPy does it"),
        ({"shape": "(3, 4, 4)", "version": b"\x02\x00"}, r"version \(2, 0\) of NumPy's format"),
    ],
)
def test_an_npz_whose_header_does_not_fit_its_data_is_refused(tmp_path, header, message):
    path = tmp_path / "a.npz"
    write_npy(path, "(3, 4, 4)", bytes(48))
    assert read_npz(path, ["images"])["images"].shape == (3, 4, 4)
    write_npy(path, data=bytes(48), **header)
    with pytest.raises(DataError, match=message):
        read_npz(path, ["images"])


def test_an_npz_that_lies_about_its_size_in_both_its_headers_takes_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    write_npy(path, "(10000000000,)", bytes(48))
    content = path.read_bytes()
    stored = struct.pack("<I", zipfile.ZipFile(path).getinfo("images.npy").file_size)
    path.write_bytes(content.replace(stored, b"\xff\xff\xff\xef"))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a\.npz"):
        read_npz(path, ["images"])
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


# What arrays may hold


def images(shape=(4, 5, 6), dtype=np.uint8, value=1):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (images(value=7), 7),
        (images((4, 5, 6, 1), value=7), 7),
        (images((4, 5, 6, 3), np.int64, 255), 255),
        (images(dtype=bool), 255),
        (images(dtype=np.float32, value=0.5), 128),
        (images(dtype=np.float64, value=1.0), 255),
        (images(dtype=np.float16, value=0.25), 64),
    ],
)
def test_images_of_several_types_become_bytes(tmp_path, array, value):
    converted = uint8_images(tmp_path, "images", array)
    assert converted.shape == (4, 5, 6, 3 if array.shape[-1] == 3 else 1)
    assert converted.dtype == np.uint8
    assert np.unique(converted).tolist() == [value]


def with_one(array, value):
    array = array.copy()
    array[2, 1, 1] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (with_one(images(dtype=np.float32), np.nan), "'images' has NaN in image 2"),
        (with_one(images(dtype=np.float32), np.inf), "from 1 to inf: floats must lie in"),
        (with_one(images(dtype=np.float32), 1.5), r"from 1 to 1.5: floats must lie in \[0, 1\]"),
        (with_one(images(dtype=np.float32), -0.1), r"floats must lie in \[0, 1\]"),
        (images(dtype=np.float32, value=200), r"from 200 to 200: floats must lie in \[0, 1\]"),
        (with_one(images(dtype=np.int16), 256), "whole numbers must lie in 0 to 255"),
        (with_one(images(dtype=np.int16), -1), "whole numbers must lie in 0 to 255"),
        (images(dtype=np.complex64), "holds complex64, not numbers"),
        (images((4, 5)), r"has shape \(4, 5\)"),
        (images((0, 5, 5)), r"has shape \(0, 5, 5\)"),
        (images((4, 3, 8, 8)), "of channels, must be 1 or 3"),
        (images((4, 8, 8, 4)), "of channels, must be 1 or 3"),
    ],
)
def test_arrays_that_are_no_images_are_named_with_what_is_wrong(tmp_path, array, message):
    with pytest.raises(DataError, match=message) as error:
        uint8_images(tmp_path / "a.npz", "images", array)
    assert str(tmp_path / "a.npz") in str(error.value)


def test_class_numbers_and_multi_hot_labels_are_taken(tmp_path):
    assert class_labels(tmp_path, "labels", np.array([[2], [0]], np.uint8), 2).tolist() == [2, 0]
    assert class_labels(tmp_path, "labels", np.array([2.0, 0.0]), 2).tolist() == [2, 0]
    multi_hot = np.array([[0, 1, 1], [0, 0, 0]])
    assert np.array_equal(class_labels(tmp_path, "labels", multi_hot, 2), multi_hot)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], "has 3 labels for 2 images"),
        ([0, -2], "whole class numbers from 0 to .*, or -1 where there is no label"),
        ([0, 1.5], "whole class numbers from 0"),
        ([0, np.nan], "whole class numbers from 0"),
        ([0, 10**9], "whole class numbers from 0"),
        ([[0, 1], [2, 0]], "zeros and ones"),
        (["cat", "dog"], "not one class number per image"),
        ([[[0]], [[0]]], "not one class number per image"),
    ],
)
def test_wrong_labels_are_named_with_what_is_wrong(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        class_labels(tmp_path, "labels", np.array(labels), 2)


def test_aligned_memory_begins_where_tensorflow_wants_it():
    for shape in ((1,), (3, 5), (1000, 28, 28, 1)):
        array = aligned_empty(shape, np.float32)
        assert array.shape == shape
        assert array.ctypes.data % 64 == 0


# CIFAR-10 and SVHN


def write_cifar10(folder, num=6):
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 256, (num, 3073), dtype=np.uint8)
        records[:, 0] = rng.integers(0, 10, num)
        records[0, :3] = 3, 200, 100  # class 3, the first two red values of the first row
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def test_the_binary_version_of_cifar10_is_read(tmp_path):
    write_cifar10(tmp_path)
    images, labels = read_cifar10(tmp_path)["train"]
    assert images.shape == (30, 32, 32, 3)
    assert labels[[0, 6, 12]].tolist() == [3, 3, 3]
    assert images[6, 0, :2, 0].tolist() == [200, 100]
    assert len(read_cifar10(tmp_path)["test"][0]) == 6
    (tmp_path / "data_batch_4.bin").write_bytes(bytes(3000))
    with pytest.raises(DataError, match=r"data_batch_4.bin should hold records of 3,073 bytes, but holds 3,000"):
        read_cifar10(tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_4.bin"):
        read_cifar10(tmp_path)
    write_cifar10(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"test_batch.bin"):
        read_cifar10(tmp_path)
    for path in tmp_path.glob("*.bin"):
        path.unlink()
    assert read_cifar10(tmp_path) is None


def test_the_files_of_svhn_are_read(tmp_path):
    from scipy.io import savemat

    stored = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
    for split in ("train", "test"):
        savemat(tmp_path / f"{split}_32x32.mat", {"X": stored, "y": np.array([[1], [10], [2], [9], [10]], np.uint8)})
    images, labels = read_svhn(tmp_path)["test"]
    assert np.array_equal(images[3], stored[..., 3])
    assert labels.tolist() == [1, 0, 2, 9, 0]
    path = tmp_path / "train_32x32.mat"
    for arrays, message in (
        ({"X": stored[..., :0], "y": np.zeros((0, 1), np.uint8)}, r"X is uint8 of shape \(32, 32, 3, 0\)"),
        ({"X": stored, "y": np.array([[1], [10], [37], [9], [10]], np.uint8)}, "y holds 37"),
        ({"X": stored, "y": np.array([[1], [10], [-3], [9], [10]], np.int16)}, "whole class numbers"),
        ({"X": stored, "y": np.array([[1], [10], [-1], [9], [10]], np.int16)}, "y holds -1"),
        ({"X": stored}, "'y'"),
    ):
        savemat(path, arrays)
        with pytest.raises(DataError, match=message):
            read_svhn(tmp_path)
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    with pytest.raises(DataError, match="it is not of version 5"):
        read_svhn(tmp_path)
    savemat(path, {"X": stored, "y": labels + 1})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"train_32x32.mat cannot be read as SVHN's MATLAB file"):
        read_svhn(tmp_path)
    path.unlink()
    assert read_svhn(tmp_path) is None
