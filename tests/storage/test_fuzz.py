"""Files with random damage, and files made at random: each gives a whole dataset or one clear line, and never takes
much memory. The same ones at every run; `-m slow` tries ten times as many, for up to two minutes."""

import functools
import gzip
import io
import json
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from conftest import write_idx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from app.run import HEADER as HEADER_TYPES
from app.run import read_run
from data import load_dataset
from sources.readers import DataError
from storage import checkpoints
from storage.checkpoints import CheckpointError, read_header

MOST_MEMORY = 32 * 2**20  # bytes; no file here holds more than a few thousand
MOST_OF_OTHERS = 2**32 + MOST_MEMORY  # SciPy and Pillow reserve, and do not touch, what 32 bits in a file ask for
FEW, MANY = {"max_examples": 60}, {"max_examples": 600}

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


# Damage

NUMBERS = [0, 1, 2, 5, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]


@st.composite
def damaged(draw, contents):
    """One of these files, with a few bytes or numbers in it changed, cut out, added or repeated."""
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(1, 3))):
        size = len(content)
        start = draw(st.integers(0, size) | st.integers(0, min(size, 400)) | st.integers(max(0, size - 400), size))
        number = draw(st.sampled_from(NUMBERS))
        new = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from([struct.pack(order + "I", number) for order in "<>"]),
                st.just(content[start // 2 : start]),
            )
        )
        end = draw(st.sampled_from([start, start + 1, start + len(new), start + 40, size]))
        content = content[:start] + new + content[end:]
    return content


def in_memory(write, *args, **kwargs) -> bytes:
    stream = io.BytesIO()
    write(stream, *args, **kwargs)
    return stream.getvalue()


# The named datasets in their makers' files: a strategy of (file name, content), beside whole files of the others


def idx(folder):
    for stem, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
        for split in ("train", "t10k"):
            write_idx(folder / f"{split}-{stem}-ubyte.gz", array)
    plain = {
        name: gzip.decompress((folder / name).read_bytes()) for name in sorted(path.name for path in folder.iterdir())
    }
    name = st.sampled_from(list(plain))
    broken = name.flatmap(lambda name: st.tuples(st.just(name), damaged([plain[name]])))
    zipped = broken.map(lambda file: (file[0], gzip.compress(file[1], mtime=0)))
    broken_zip = name.flatmap(lambda name: st.tuples(st.just(name), damaged([(folder / name).read_bytes()])))
    unzipped = broken.map(lambda file: (file[0].removesuffix(".gz"), file[1]))
    return "mnist", st.one_of(unzipped, zipped, broken_zip)


def cifar10(folder):
    records = np.insert(RNG.integers(0, 256, (2, 3072), dtype=np.uint8), 0, [3, 9], axis=1).tobytes()
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for name in names:
        (folder / name).write_bytes(records)
    return "cifar10", st.tuples(st.sampled_from(names), damaged([records]))


def svhn(folder):
    arrays = {"X": RNG.integers(0, 256, (32, 32, 3, 2), dtype=np.uint8), "y": np.array([[1], [10]], np.uint8)}
    contents = [in_memory(savemat, arrays, do_compression=do_compression) for do_compression in (False, True)]
    for split in ("train", "test"):
        (folder / f"{split}_32x32.mat").write_bytes(contents[1])
    return "svhn", st.tuples(st.just("train_32x32.mat"), damaged(contents))


def medmnist(folder):
    arrays = {f"{split}_images": IMAGES for split in ("train", "test")}
    arrays |= {f"{split}_labels": LABELS[:, np.newaxis] % 2 for split in ("train", "test")}
    contents = [in_memory(save, **arrays) for save in (np.savez, np.savez_compressed)]
    return "pneumoniamnist", st.tuples(st.just("pneumoniamnist.npz"), damaged(contents))


# The user's own data


def own_npz(folder):
    contents = [in_memory(save, images=IMAGES, labels=LABELS) for save in (np.savez, np.savez_compressed)]
    return str(folder / "own.npz"), st.tuples(st.just("own.npz"), damaged(contents))


DTYPES = ["u1", "i1", "<u2", ">i4", "<i8", "<u8", "?", "<f2", ">f4", "<f8", "<f16", "<c8", "S3", "<U2", "V3", "<M8[s]",
          "<m8[D]", "u1,<f4", "(2,)u1", "O", "S0"]  # fmt: skip
SHAPES = [(), (0,), (6,), (6, 1), (6, 3), (6, 5, 4), (6, 5, 4, 1), (6, 5, 4, 3), (3, 5, 4, 2), (0, 5, 4), (2, 2, 2),
          (1, 1, 1), (2, 1, 1, 1), (6, 0), (1, 5, 4), (6, 5, 4, 3, 1)]  # fmt: skip


@st.composite
def arrays(draw, likely):
    """Of any type and shape that NumPy saves; often `likely`, and with any bytes in them."""
    if draw(st.booleans()):
        return likely
    dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.sampled_from(SHAPES))
    if dtype.hasobject or not dtype.itemsize:
        return np.full(shape, {}, object)
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    pattern = draw(st.one_of(st.sampled_from([b"\0", b"\1", b"\0\1", b"\0\0\x80\x3f", b"\xff"]), st.binary(min_size=1)))
    array = np.frombuffer((pattern * size)[:size], dtype.base)
    return np.asarray(array.reshape((*shape, *dtype.shape)), order=draw(st.sampled_from("CF")))


def own_arrays(folder):
    names = st.sampled_from(["images", "labels", "train_images", "train_labels", "test_images", "test_labels", "x"])
    content = st.builds(
        lambda some, more: in_memory(np.savez, **some, **{k: v for k, v in more.items() if k not in some}),
        st.fixed_dictionaries({}, optional={"images": arrays(IMAGES), "labels": arrays(LABELS)}),
        st.dictionaries(names, st.one_of(arrays(IMAGES), arrays(LABELS)), max_size=4),
    )
    return str(folder / "own.npz"), st.tuples(st.just("own.npz"), content)


@st.composite
def npy_headers(draw):
    """An .npz whose array says of itself whatever it likes."""
    lengths = st.sampled_from(
        ["0", "1", "2", "6", "5", "4", "-1", "-6", "True", "10**10", "10000000000", "2.0", "None"]
    )
    shape = "(" + ", ".join(draw(st.lists(lengths, max_size=5))) + draw(st.sampled_from([")", ",)", ""]))
    descr = draw(st.sampled_from([repr(dtype) for dtype in (*DTYPES, "|u1", "u1" * 50, "V10000000000", "x")]))
    order = draw(st.sampled_from(["False", "True", "2", "__import__('os')"]))
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode() + b"\n"
    version = draw(st.sampled_from([(1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (0, 0)]))
    length = draw(st.sampled_from([len(text)] * 3 + NUMBERS))
    packed = struct.pack("<H", length % 2**16) if version == (1, 0) else struct.pack("<I", length)
    data = draw(st.sampled_from([b"", bytes(120), bytes(range(120)), bytes(10**5)]))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        method = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
        archive.writestr("images.npy", b"\x93NUMPY" + bytes(version) + packed + text + data, method)
    return stream.getvalue()


def own_headers(folder):
    return str(folder / "own.npz"), st.tuples(st.just("own.npz"), npy_headers())


KINDS = ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F", "PA", "RGBX"]


@functools.cache
def picture(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    """A file of this kind and mode, or of the nearest mode that the kind has."""
    grey = Image.effect_noise(size, 90)
    image = grey.convert("I" if mode == "I;16" else "RGB").convert(mode)
    try:
        return in_memory(image.save, kind)
    except (OSError, KeyError, ValueError):
        return in_memory(grey.save, kind)


ODD_CONTENTS = [b"", b"just text\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n"]
LAYOUTS = [("1", "2", "3"), ("a/1", "a/2", "b/1"), ("train/a/1", "train/a/2", "test/a/1"), ("train/1", "val/1"), ()]
ODD_NAMES = ["a/1.PNG", "4.jpeg", "b/é ü.bmp", "a/a\nb.png", "-rf.gif", "a/%s.tiff", "a/..x.png", "a/\udcff.png",
             "1.txt", "two\nlines/1.png", "a/deeper/1.ppm", "test/b/1.png", "x.npz", "a/1.eps", "a/1.ico"]  # fmt: skip


@st.composite
def picture_folders(draw):
    """Paths in a folder and their contents: alike, but for up to two that are odd."""
    kind, mode = draw(st.sampled_from(KINDS)), draw(st.sampled_from(MODES))
    size = draw(st.sampled_from([(5, 4), (1, 1), (1, 40)]))
    files = {f"{name}.{kind}": picture(kind, mode, size) for name in draw(st.sampled_from(LAYOUTS))}
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([*files, *ODD_NAMES]))
        odd = picture(
            draw(st.sampled_from(KINDS)), draw(st.sampled_from(MODES)), draw(st.sampled_from([(5, 4), (4, 5)]))
        )
        files[name] = draw(st.one_of(damaged([*files.values(), odd]), st.sampled_from([odd, *ODD_CONTENTS])))
    return files


# Properties


def assert_whole(dataset) -> None:
    """What training and evaluation rely on."""
    for part in (dataset.train, dataset.test):
        assert part.x.dtype == part.labels.dtype == np.uint8
        assert part.x.ndim == 4
        assert part.x.shape[1:] == dataset.data_shape
        assert part.x.shape[-1] in (1, 3)
        assert part.x.size
        assert part.labels.shape == (len(part), len(dataset.class_names))
        assert part.labels.max(initial=0) <= 1
    assert np.isfinite(dataset.mean()).all()
    assert dataset.kind() in ("drawings", "photographs", "colour")
    assert "\n" not in dataset.fingerprint() + dataset.describe().replace(dataset.source, "").replace("\n", "", 1)


def whole_or_one_line(load, most_memory=MOST_MEMORY):
    """What `load` returns, or None if it refuses in one line; either without much memory."""
    tracemalloc.start()
    loaded, message = None, "one line"
    try:
        loaded = load()
    except (DataError, CheckpointError) as error:
        message = str(error).strip()
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(message.splitlines()) == 1
    assert most < most_memory
    return loaded


@pytest.fixture(params=[pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)])
def try_all(request):
    """Check a property of everything that a strategy comes up with."""

    def check(strategy, holds) -> None:
        effort = settings(
            **request.param,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        effort(given(strategy)(holds))()

    return check


@pytest.mark.parametrize("files", [idx, cifar10, svhn, medmnist, own_npz, own_arrays, own_headers])
def test_a_data_file_gives_a_whole_dataset_or_one_line(tmp_path, try_all, files):
    dataset, strategy = files(tmp_path)
    others = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def holds(file):
        name, content = file
        path = tmp_path / name
        path.write_bytes(content)
        most_memory = MOST_OF_OTHERS if files is svhn else MOST_MEMORY
        loaded = whole_or_one_line(lambda: load_dataset(dataset, tmp_path, offline=True), most_memory)
        if loaded is not None:
            assert_whole(loaded)
        path.unlink()
        if path in others:
            path.write_bytes(others[path])

    try_all(strategy, holds)


def test_a_folder_of_images_gives_a_whole_dataset_or_one_line(tmp_path_factory, try_all):
    def holds(files):
        folder = tmp_path_factory.mktemp("images")
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        for image_size in (None, (4, 3)):
            load = functools.partial(load_dataset, str(folder), image_size=image_size)
            loaded = whole_or_one_line(load, MOST_OF_OTHERS)
            if loaded is not None:
                assert_whole(loaded)

    try_all(picture_folders(), holds)


# Checkpoints

EXAMPLES = {int: 1, str: "x", float: 0.5, type(None): None}


def example(wanted):
    """A value of the types in run.HEADER."""
    if isinstance(wanted, dict):
        return {key: example(part) for key, part in wanted.items()}
    if isinstance(wanted, list):
        return [example(wanted[0])]
    return EXAMPLES[wanted[-1] if isinstance(wanted, tuple) else wanted]


HEADER = {"format": checkpoints.FORMAT, **example(HEADER_TYPES)}


def checkpoint(path, header: bytes) -> bytes:
    with h5py.File(path, "w") as file:
        file["encoder/vars/0"] = np.arange(12, dtype=np.float32).reshape(3, 4)
        file[checkpoints.HEADER] = np.frombuffer(header, np.uint8)
    return path.read_bytes() + checkpoints.seal(path.read_bytes())


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, try_all):
    path = tmp_path / "a.weights.h5"
    whole = checkpoint(path, json.dumps(HEADER).encode())

    def holds(content):
        path.write_bytes(content)
        header = whole_or_one_line(lambda: read_header(path))
        assert (header == HEADER) if content == whole else (header is None)

    try_all(st.one_of(st.just(whole), damaged([whole])), holds)


JSON = st.sampled_from(
    [None, True, 0, -1, 10**30, 1.5, float("nan"), "", "x", [], [None], ["x"], [1], {}, {"epoch": 1}]
)


@st.composite
def headers(draw):
    """The header of a run with one of its parts replaced or taken out; or anything."""
    header = json.loads(json.dumps(HEADER))
    part, key = header, draw(st.sampled_from(sorted(header)))
    while isinstance(part[key], dict) and draw(st.booleans()):
        part = part[key]
        key = draw(st.sampled_from(sorted(part)))
    part[key] = draw(JSON)
    if draw(st.booleans()):
        del part[key]
    return draw(st.one_of(st.just(header), st.just(header), JSON))


def test_a_header_made_at_random_tells_all_that_a_run_needs_or_is_refused_in_one_line(tmp_path, try_all):
    path = tmp_path / "a.weights.h5"

    def holds(header):
        path.write_bytes(checkpoint(path, json.dumps(header).encode()))
        found = whole_or_one_line(lambda: read_run(path))
        if found is not None:
            assert found.keys() >= HEADER.keys()
            assert found["config"].keys() >= HEADER["config"].keys()

    try_all(headers(), holds)
