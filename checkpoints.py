"""One file per checkpoint, and it describes itself.

A checkpoint is what `model.save_weights` writes (plain Keras reads it), plus a JSON header with all that is needed to
rebuild and continue the run, plus a SHA-256 digest of both. It appears under its name only when it is whole.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from files import replacing

FORMAT = 1
HEADER = "header"  # the name of the dataset that holds the JSON; an HDF5 attribute would end at 64 KiB


class CheckpointError(Exception):
    """A checkpoint is missing, broken, or not for this model; the message says which file and why."""


def save_model_weights(model, path: str | os.PathLike, header: Mapping[str, Any]) -> None:
    """Write the model, its optimizer and `header` to `path`, replacing what is there only once all is on the disk.

    Args:
        model: a model from `vae.build_model`; its `arguments` are added to the header.
        header: anything JSON can hold.

    Raises:
        WriteError: if it cannot be written; an earlier file at `path` is then untouched.
    """
    header = {**header, "format": FORMAT, "model": model.arguments}
    if model.optimizer is not None:
        header["iterations"] = int(model.optimizer.iterations)
    with replacing(path) as partial:
        model.save_weights(partial)
        with h5py.File(partial, "r+") as file:
            file[HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
            file.attrs["digest"] = digest(file)


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """The header of a checkpoint, after its digest has been checked. Needs no TensorFlow.

    Raises:
        CheckpointError: if there is no such file, it is not ours, it is damaged, or its format is newer.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}")
    if not path.name.endswith(".weights.h5"):
        raise CheckpointError(f"Keras reads weights only from names that end in .weights.h5: rename {path}")
    with reading(path), h5py.File(path, "r") as file:
        stored_digest = file.attrs.get("digest")
        if stored_digest is None or HEADER not in file:
            raise CheckpointError(f"{path} was not written by this program: it has no header")
        if stored_digest != digest(file):
            raise CheckpointError(f"{path} is damaged: its contents do not match their digest")
        header = json.loads(bytes(file[HEADER][:]))
    if header["format"] > FORMAT:
        raise CheckpointError(f"{path} has format {header['format']}, this program reads up to {FORMAT}: update it")
    return header


def load_weights(model, path: str | os.PathLike) -> dict[str, Any]:
    """Load a checkpoint into a model of the same arguments, and into its optimizer if it is compiled and built.

    Returns:
        The header.

    Raises:
        CheckpointError: as `read_header`, or if the checkpoint is another model's; no tensor has been touched then.
    """
    header = read_header(path)
    refuse_differences(path, model.arguments | header["model"], model.arguments)  # an older header may have fewer
    with reading(path):
        model.load_weights(path)
    if model.optimizer is not None and int(model.optimizer.iterations) != header["iterations"]:
        raise CheckpointError(f"{path} did not restore the optimizer: it holds none for this model")
    return header


def refuse_differences(path: str | os.PathLike, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise a CheckpointError that names each value in `asked` that is not the checkpoint's."""
    differences = [
        f"checkpoint has {name} {show(stored.get(name))}, you asked for {show(value)}"
        for name, value in asked.items()
        if json.dumps(stored.get(name)) != json.dumps(value)
    ]
    if differences:
        raise CheckpointError(f"{path} does not fit: {'; '.join(differences)}")


def show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def digest(file: h5py.File) -> str:
    """SHA-256 over names, types, shapes, contents and attributes of everything in the file but the digest itself."""
    sha256 = hashlib.sha256()

    def add(name: str, item: h5py.Dataset | h5py.Group) -> None:
        sha256.update(repr((name, sorted((key, str(value)) for key, value in item.attrs.items()))).encode())
        if isinstance(item, h5py.Dataset):
            sha256.update(repr((item.dtype.str, item.shape)).encode())
            sha256.update(np.ascontiguousarray(item[()]).tobytes())

    file.visititems(add)
    return sha256.hexdigest()


@contextlib.contextmanager
def reading(path: str | os.PathLike):
    """Turn whatever HDF5, JSON or Keras make of a broken file into one clear error."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything in its readers
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}") from error
