import contextlib
import functools
import gc
import gzip
import io
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import h5py
import numpy as np
import pytest
from PIL import Image

from storage.files import replacing

gc.set_threshold(100_000, 20, 100)  # tracing makes many objects and little garbage: a tenth of the suite's time
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SHARED_MNIST = REPOSITORY.parent / "shared" / "data" / "mnist"
CHECKPOINT = "model_ckpts/vae/mnist/vae.weights.h5"
# A run of a second on the tiny data. A flag that is given again later takes the place of these.
SMALL = "--dataset mnist --num_epochs 2 --batch_size 32 --hidden_dims 16 --latent_size 3 --num_samples 4".split()


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
    """XLA takes seconds to compile a network, so only processes of their own and tests with the fixture `xla` use it.

    Yields what the networks have XLA compile otherwise.
    """
    from parts import networks

    compiled = {name: network["compiled"] for name, network in networks.NETWORKS.items()}
    with pytest.MonkeyPatch.context() as patch:
        for network in networks.NETWORKS.values():
            patch.setitem(network, "compiled", "nothing")
        yield compiled


@pytest.fixture
def xla(no_xla, monkeypatch):
    """Train in this process as users do."""
    from parts import networks

    for name, compiled in no_xla.items():
        monkeypatch.setitem(networks.NETWORKS[name], "compiled", compiled)


def one_pixel() -> bytes:
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "png")
    return content.getvalue()


PIXEL = one_pixel()


def save_one_pixel(figure, path, *args, **kwargs) -> None:
    """In the place of visualize.save: drawing takes a third of a small run's time."""
    with replacing(path) as partial:
        partial.write_bytes(PIXEL)


@pytest.fixture
def real_pictures():
    """A test that asks for this has its pictures drawn."""


@pytest.fixture
def drawn(monkeypatch, real_pictures):
    """The figures that were saved, by the names of their files."""
    from matplotlib.figure import Figure

    saved, savefig = {}, Figure.savefig

    def keep(figure, path, **kwargs):
        saved[path.name.split(".", 3)[-1]] = figure  # after .partial.<pid>.
        savefig(figure, path, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


@pytest.fixture
def script(request, tmp_path, monkeypatch, idx_folder):
    """Run the script's main() in this process, in an empty folder, on the tiny data and a tiny model."""
    monkeypatch.chdir(tmp_path)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist's workers ignore it
    import assignment
    import visualize

    if "real_pictures" not in request.fixturenames:
        monkeypatch.setattr(visualize, "save", save_one_pixel)

    def run(*flags: str, only: bool = False) -> int:
        small = [] if only else ["--data_dir", str(idx_folder), *SMALL]
        return assignment.main([*small, *map(str, flags)])

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory, idx_folder):
    """trained(*flags): a folder in which script(*flags) was called, once a session. Read it, or copy it, see `start`.

    The pictures there are blank.
    """
    import assignment
    import visualize

    @functools.cache
    def train(*flags: str) -> pathlib.Path:
        folder = tmp_path_factory.mktemp("trained")
        with pytest.MonkeyPatch.context() as patch, open(os.devnull, "w") as nowhere:
            patch.chdir(folder)
            patch.setattr(visualize, "save", save_one_pixel)
            with contextlib.redirect_stdout(nowhere):
                assert assignment.main(["--data_dir", str(idx_folder), *SMALL, *flags]) == 0
        return folder

    return train


@pytest.fixture
def start(script, trained):
    """start(*flags): the test's folder is as after script(*flags), in no time if another test has trained that."""

    def copy(*flags: str) -> None:
        shutil.copytree(trained(*flags), ".", dirs_exist_ok=True)

    return copy


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, trained) -> pathlib.Path:
    """A folder in which a VAE and a CVAE were trained."""
    folder = tmp_path_factory.mktemp("two_models")
    for flags in ([], ["--model", "cvae"]):
        shutil.copytree(trained(*flags), folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def empty_tfds(tmp_path, monkeypatch) -> None:
    """TensorFlow Datasets has nothing prepared."""
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds, "builder", functools.partial(tfds.builder, data_dir=tmp_path / "tfds"))


def metrics(folder: str | os.PathLike = "outputs/vae/mnist") -> dict:
    """The figures that a run has written."""
    return json.loads(pathlib.Path(folder, "metrics.json").read_text())


def run_process(*flags: str, cwd: pathlib.Path, **kwargs) -> subprocess.CompletedProcess:
    """Run the script as a user does."""
    command = [sys.executable, str(REPOSITORY / "assignment.py"), *flags]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, **kwargs)


def take_all_signals() -> None:
    """In a process just started: some are ignored where the tests themselves run in the background or under nohup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start_process(*flags: str, cwd: pathlib.Path, **kwargs) -> subprocess.Popen:
    """The same in the background, where a signal can be sent to it."""

    command = [sys.executable, str(REPOSITORY / "assignment.py"), *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, preexec_fn=take_all_signals, **pipes, **kwargs)


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


def assert_refused(script, capsys, flags, code: int, message: str) -> None:
    """Assert that the script ends with this exit code and a message, and no traceback."""
    try:
        found = script(*flags)
    except SystemExit as stopped:
        found = stopped.code
    assert found == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (chromium := shutil.which("chromium")):
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as started:
        options = ["--no-sandbox", "--disable-background-networking"]
        opened = started.chromium.launch(executable_path=chromium, args=options)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """open_page(path, width): the page, ready if it runs something. In the end it must have asked for nothing and
    complained of nothing."""
    requests, errors, pages = [], [], []

    def opened(path: pathlib.Path, width: int = 1400, *, runs: bool = True):
        page = browser.new_page(viewport={"width": width, "height": 900}, has_touch=True)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.resolve().as_uri())
        if runs:
            page.wait_for_function("document.body.dataset.ready === 'true'")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.wait_for_timeout(200)
        page.close()
    assert errors == []
    assert all(url.startswith(("file:", "data:")) and url.endswith("html") for url in requests if url[:5] != "data:")
