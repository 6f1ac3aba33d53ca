"""The promises that take minutes to check: `python -m pytest -m slow`."""

import functools
import http.server
import json
import threading
import zlib

import numpy as np
import pytest
from conftest import SHARED_MNIST, run_process
from sklearn.linear_model import LogisticRegression

from data import load_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED_MNIST.is_dir(), reason="needs the real MNIST files in ../shared/data/mnist"),
]


def train(tmp_path, *flags):
    done = run_process("--data_dir", str(SHARED_MNIST), "--dataset", "mnist", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_default_run_reaches_the_figure_in_the_readme(tmp_path):
    train(tmp_path)
    metrics = json.loads((tmp_path / "outputs/vae/mnist/metrics.json").read_text())
    assert metrics["test"]["num_examples"] == 10_000
    assert metrics["test"]["elbo"] >= -98.5


def test_conditional_samples_look_like_the_class_asked_for(tmp_path):
    """A linear classifier, right in 9 of 10 real digits, agrees with the class asked for about as often."""
    train(tmp_path, "--is_cvae")
    done = run_process("--sample", "--is_cvae", "--num_samples", "100", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    samples = np.load(tmp_path / "outputs/cvae/mnist/samples.npz")
    real = load_dataset("mnist", SHARED_MNIST).train[:10_000]
    classifier = LogisticRegression(max_iter=100).fit(real.x.reshape(10_000, -1) / 255, real.labels.argmax(axis=1))
    agreement = classifier.predict(samples["images"].reshape(1000, -1)) == samples["labels"]
    assert agreement.mean() > 0.87


def test_mnist_is_downloaded_and_prepared_by_tensorflow_datasets(tmp_path, monkeypatch):
    """The whole way, from a server on this machine: images and labels arrive, and nothing but them is kept."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import mnist

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=SHARED_MNIST)
    monkeypatch.setattr(handler.func, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(mnist.MNIST, "URL", f"http://127.0.0.1:{server.server_address[1]}/")
        builder = functools.partial(tfds.builder, data_dir=tmp_path)
        monkeypatch.setattr(tfds, "builder", builder)
        downloaded = load_dataset("mnist", tmp_path / "no_local_files")
        server.shutdown()
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"], "the raw files are gone"
    local, prepared = load_dataset("mnist", SHARED_MNIST), load_dataset("mnist", tmp_path, offline=True)
    for split in ("train", "test"):
        parts = [getattr(dataset, split) for dataset in (downloaded, local, prepared)]
        for part in parts:
            assert np.array_equal(part.labels.sum(axis=0), parts[1].labels.sum(axis=0))
        images = [sorted(zlib.crc32(image) for image in part.x) for part in parts]
        assert images[0] == images[1] == images[2]
