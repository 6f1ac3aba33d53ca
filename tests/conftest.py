import functools
import gzip
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import h5py
import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SHARED_MNIST = REPOSITORY.parent / "shared" / "data" / "mnist"


def write_idx(path: pathlib.Path, array: np.ndarray) -> None:
    content = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def bars(num: int, seed: int, side: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Grey images of one bright bar, whose height is the class, on a little noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.uint8) % 10
    images = rng.integers(0, 40, (num, side, side), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[1 + label, rng.integers(0, 4) : side - rng.integers(0, 4)] = 250
    return images, labels


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory) -> pathlib.Path:
    """A tiny dataset in the four files that MNIST comes in, two of them gzipped."""
    folder = tmp_path_factory.mktemp("idx")
    for stem, num, seed in (("train", 200, 0), ("t10k", 60, 1)):
        images, labels = bars(num, seed)
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_xla():
    """XLA takes seconds to compile a network, so only tests that start processes of their own train with it."""
    from parts import networks

    with pytest.MonkeyPatch.context() as patch:
        for network in networks.NETWORKS.values():
            patch.setitem(network, "compiled", "nothing")
        yield


@pytest.fixture
def script(tmp_path, monkeypatch, idx_folder):
    """Run the script's main() in this process, in an empty folder, on the tiny data and a tiny model."""
    monkeypatch.chdir(tmp_path)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist's workers ignore it
    import assignment

    small = ["--data_dir", str(idx_folder), "--dataset", "mnist", "--num_epochs", "2", "--batch_size", "32"]
    small += ["--hidden_dims", "16", "--latent_size", "3", "--num_samples", "4"]

    def run(*flags: str, only: bool = False) -> int:
        return assignment.main([*([] if only else small), *map(str, flags)])

    return run


@pytest.fixture
def empty_tfds(tmp_path, monkeypatch) -> None:
    """TensorFlow Datasets has nothing prepared."""
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds, "builder", functools.partial(tfds.builder, data_dir=tmp_path / "tfds"))


def run_process(*flags: str, cwd: pathlib.Path, **kwargs) -> subprocess.CompletedProcess:
    """Run the script as a user does."""
    command = [sys.executable, str(REPOSITORY / "assignment.py"), *flags]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, **kwargs)


def start_process(*flags: str, cwd: pathlib.Path, **kwargs) -> subprocess.Popen:
    """The same in the background, where a signal can be sent to it."""

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it is ignored where the tests themselves run in the background

    command = [sys.executable, str(REPOSITORY / "assignment.py"), *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, preexec_fn=prepare, **pipes, **kwargs)


def wait_for(condition, seconds: float = 120, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(pause)


def tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """What a checkpoint holds besides its header, in which there are times."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    del found["header"]
    return found


def assert_same_tensors(a: str | os.PathLike, b: str | os.PathLike) -> None:
    a, b = tensors(a), tensors(b)
    assert a.keys() == b.keys()
    assert len(a) > 20
    assert all(np.array_equal(a[name], b[name]) for name in a)
