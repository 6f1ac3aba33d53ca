"""Downloads: TensorFlow Datasets, and single files with a published hash.

A download is verified by its hash. It gets its name only when it is complete, and is tried again if it is damaged.
"""

import contextlib
import functools
import io
import logging
import pathlib
import sys
import tempfile

import numpy as np

from sources.quiet import import_tensorflow
from sources.readers import OutOfReachError, aligned_empty, first_line

CONNECT_SECONDS, READ_SECONDS = 5, 20  # how long to wait for a server that does not answer
RETRIES = 2


def cache_folder() -> pathlib.Path:
    """Where single files are kept: ~/.cache/vae-datasets on Linux; XDG_CACHE_HOME moves it."""
    import pooch

    return pathlib.Path(pooch.os_cache("vae-datasets"))


def fetch(url: str, md5: str, folder: pathlib.Path, name: str, *, offline: bool = False) -> pathlib.Path:
    """The file at `url`: from `folder` if it is there and intact, else downloaded to it.

    Raises:
        OutOfReachError: if it cannot be downloaded, must not be (`offline`), or has another hash than `md5`.
    """
    import pooch
    import requests

    path = folder / name
    if not (path.is_file() and pooch.file_hash(str(path), alg="md5") == md5):
        if offline:
            raise OutOfReachError(f"{path} does not exist or is damaged, and --offline forbids downloading it")
        print(f"downloading {url} to {path}", flush=True)
    pooch.get_logger().setLevel(logging.CRITICAL)  # the messages are ours
    files = pooch.create(folder, "", registry={name: f"md5:{md5}"}, urls={name: url}, retry_if_failed=RETRIES)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=(CONNECT_SECONDS, READ_SECONDS))
    try:
        return pathlib.Path(files.fetch(name, downloader=downloader))
    except requests.RequestException as error:
        raise OutOfReachError(f"{url} cannot be downloaded: {network_reason(error)}") from None
    except ValueError:  # pooch raises it for another hash
        raise OutOfReachError(f"the file from {url} does not have the published MD5 {md5}: it was deleted") from None


def network_reason(error: Exception) -> str:
    """One line on why a download failed."""
    import requests

    if isinstance(error, requests.HTTPError):
        return f"its server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return "no connection to its server"
    return first_line(error)


def read_tfds(name: str, *, offline: bool = False) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], str]:
    """Images and labels of "train" and "test" from TensorFlow Datasets, and the full name of their source.

    Raises:
        OutOfReachError: if they are not prepared on this machine and cannot be downloaded, or must not (`offline`).
    """
    import_tensorflow()
    import tensorflow_datasets as tfds

    for logger in ("absl", "urllib3"):  # also afterwards: threads of a failed download go on for a while
        logging.getLogger(logger).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = tfds.builder(name)
    if not builder.is_prepared():
        if offline:
            raise OutOfReachError(
                f"{name} was not prepared by TensorFlow Datasets, and --offline forbids downloading it"
            )
        print(f"downloading {builder.info.full_name} to {builder.data_path}", flush=True)
        folder = builder.data_path.parent.parent
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with (
                download_timeouts(),
                contextlib.redirect_stdout(io.StringIO()),  # it repeats the line above with unknown sizes
                tempfile.TemporaryDirectory(dir=folder, prefix="downloads_", ignore_cleanup_errors=True) as raw_files,
            ):
                builder.download_and_prepare(download_dir=raw_files)
        except Exception as error:  # the network, checksums and the disk have types of their own
            raise OutOfReachError(
                f"{name} cannot be loaded from TensorFlow Datasets ({network_reason(error)})"
            ) from error
    splits = {}
    for split in ("train", "test"):
        num = builder.info.splits[split].num_examples
        images, labels = aligned_empty((num, *builder.info.features["image"].shape)), np.empty(num, np.int64)
        start = 0
        for x, y in tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True, batch_size=1000)):
            images[start : start + len(x)], labels[start : start + len(x)] = x, y
            start += len(x)
        splits[split] = images, labels
    return splits, f"TensorFlow Datasets {builder.info.full_name}"


@contextlib.contextmanager
def download_timeouts(
    connect_seconds: float = CONNECT_SECONDS, read_seconds: float = READ_SECONDS, retries: int = RETRIES
):
    """Make TensorFlow Datasets give up early: without this it waits without limit, and retries silently for 200 s."""
    import requests
    from tensorflow_datasets.core.download import downloader

    own_request, own_retries = requests.Session.request, downloader.MAX_RETRIES
    requests.Session.request = functools.partialmethod(own_request, timeout=(connect_seconds, read_seconds))
    downloader.MAX_RETRIES = retries
    try:
        yield
    finally:
        requests.Session.request, downloader.MAX_RETRIES = own_request, own_retries
