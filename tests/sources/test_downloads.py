"""Downloads, from a real server on this machine: whole, with another content, cut off, missing, out of reach."""

import functools
import hashlib
import http.server
import pathlib
import socket
import threading
import time

import numpy as np
import pytest
from conftest import bars

import data
from sources import downloads
from sources.downloads import OutOfReachError, fetch

CONTENT = np.random.default_rng(0).bytes(200_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next of `answers`, the last one again and again; counts the requests."""

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), functools.partial(Handler))
        self.answers, self.requests = list(answers), 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/file.npz?download=1"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = self.server.answers[min(self.server.requests, len(self.server.answers) - 1)]
        self.server.requests += 1
        if answer == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write({"whole": CONTENT, "other": CONTENT[::-1], "cut": CONTENT[:70_000]}[answer])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(*answers):
        servers.append(Server(*answers))
        return servers[-1]

    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # pooch waits between its attempts
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def files(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]


def test_a_good_file_is_kept_and_not_asked_for_again(serve, tmp_path, capsys):
    server = serve("whole")
    path = fetch(server.url, MD5, tmp_path / "cache", "file.npz")
    assert path.read_bytes() == CONTENT
    assert files(tmp_path) == [path]
    assert f"downloading {server.url} to {path}" in capsys.readouterr().out
    assert fetch(server.url, MD5, tmp_path / "cache", "file.npz") == path
    assert fetch(server.url, MD5, tmp_path / "cache", "file.npz", offline=True) == path
    assert server.requests == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("other", f"does not have the published MD5 {MD5}: it was deleted"),
        ("cut", "cannot be downloaded: the connection broke off"),
        ("missing", "cannot be downloaded: its server answers 404 Not Found"),
    ],
)
def test_a_bad_download_is_tried_again_and_leaves_nothing(serve, tmp_path, answer, message):
    server = serve(answer)
    with pytest.raises(OutOfReachError, match=message) as error:
        fetch(server.url, MD5, tmp_path, "file.npz")
    assert server.url in str(error.value)
    assert "\n" not in str(error.value)
    assert server.requests == 1 + downloads.RETRIES
    assert files(tmp_path) == []


@pytest.mark.parametrize("answers", [("cut", "whole"), ("other", "whole"), ("missing", "cut", "whole")])
def test_a_download_that_succeeds_at_last_is_kept(serve, tmp_path, answers):
    server = serve(*answers)
    assert fetch(server.url, MD5, tmp_path, "file.npz").read_bytes() == CONTENT
    assert server.requests == len(answers)


def test_a_damaged_file_in_the_cache_is_replaced(serve, tmp_path):
    path = tmp_path / "file.npz"
    path.write_bytes(CONTENT[:1000])
    with pytest.raises(OutOfReachError, match="damaged, and --offline forbids"):
        fetch("http://127.0.0.1:1/", MD5, tmp_path, "file.npz", offline=True)
    assert fetch(serve("whole").url, MD5, tmp_path, "file.npz").read_bytes() == CONTENT


def test_without_a_network_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    with pytest.raises(OutOfReachError, match="no connection to its server"):
        fetch(url, MD5, tmp_path, "file.npz")
    assert files(tmp_path) == []


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "READ_SECONDS", 0.2)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        pytest.raises(OutOfReachError, match="no connection to its server"),
    ):
        fetch(f"http://127.0.0.1:{mute.getsockname()[1]}/", MD5, tmp_path, "file.npz")


def write_medmnist(path, labels):
    images, _ = bars(30, seed=0)
    splits = {f"{split}_images": images for split in ("train", "val", "test")}
    np.savez(path, **splits, **{f"{split}_labels": labels for split in ("train", "val", "test")})


def test_medmnist_is_taken_from_its_folder_else_the_cache_else_its_record(tmp_path, monkeypatch):
    asked = []

    def fetched(url, md5, folder, name, *, offline):
        asked.append((url, md5, offline))
        write_medmnist(tmp_path / name, np.tile([[0], [1]], (15, 1)))
        return tmp_path / name

    monkeypatch.setattr(downloads, "fetch", fetched)
    dataset = data.load_dataset("pneumoniamnist", tmp_path / "empty")
    assert dataset.class_names == ("normal", "pneumonia")
    assert (len(dataset.train), len(dataset.test)) == (30, 30)
    url = "https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1"
    assert asked == [(url, "28209eda62fecd6e6a2d98b1501bb15f", False)]
    assert data.load_dataset("pneumoniamnist", tmp_path).source == str(tmp_path / "pneumoniamnist.npz")
    assert len(asked) == 1


def test_the_several_labels_of_chestmnist_become_multi_hot_vectors(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, (30, 14))
    write_medmnist(tmp_path / "chestmnist.npz", labels)
    dataset = data.load_dataset("chestmnist", tmp_path)
    assert dataset.num_classes == 14
    assert np.array_equal(dataset.train.labels, labels)
    assert "14 labels, several at a time (atelectasis, " in dataset.describe()


def test_offline_never_opens_a_connection(tmp_path, monkeypatch, empty_tfds):
    def refuse(*args, **kwargs):
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(downloads, "cache_folder", lambda: tmp_path / "cache")
    for name in ("mnist", "fashion_mnist", "kmnist", "cifar10", "svhn", "chestmnist", "octmnist", "tissuemnist"):
        with pytest.raises(OutOfReachError, match="--offline forbids downloading it") as error:
            data.load_dataset(name, tmp_path, offline=True)
        assert str(tmp_path) in str(error.value)
        assert "--data_dir" in str(error.value)
    for name in ("mnist_sample", "moons", "circles", "blobs"):
        assert len(data.load_dataset(name, tmp_path, offline=True).test) >= 1000
