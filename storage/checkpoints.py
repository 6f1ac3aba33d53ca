"""One file per checkpoint, and it describes itself.

A checkpoint is what `model.save_weights` writes (plain Keras reads it), plus a JSON header with all that is needed to
rebuild and continue the run, plus a seal at its end: a SHA-256 digest of every byte before it, which is checked
before HDF5 opens the file. The file appears under its name only when it is complete.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from storage.errors import UserError
from storage.files import replacing

FORMAT = 2
SEAL = b"VAE checkpoint SHA-256: "  # starts the bytes at the end, which HDF5 and Keras ignore
HEADER = "header"  # the name of the dataset that holds the JSON; an HDF5 attribute would end at 64 KiB
LONGEST_REASON = 300  # characters; Keras writes several paragraphs


class CheckpointError(UserError):
    """A checkpoint is missing, broken, or not for this model; the message says which file and why."""


def save_model_weights(model, path: str | os.PathLike, header: Mapping[str, Any]) -> None:
    """Write the model, its optimizer and `header` to `path`. A file there is replaced only by a complete one.

    Args:
        model: a model from `vae.build_model`; its `arguments` are added to the header.
        header: anything JSON can hold.

    Raises:
        WriteError: if it cannot be written; an earlier file at `path` is then untouched.
    """
    header = {**header, "format": FORMAT, "model": model.arguments, "weights": weights_digest(model)}
    if (optimizer := getattr(model, "optimizer", None)) is not None:  # only a compiled model has the attribute
        header["iterations"] = int(optimizer.iterations.numpy())
    size = 2**20 + sum(variable.numpy().nbytes for variable in all_variables(model))
    with replacing(path, size) as partial:  # reserved, since HDF5 leaks and prints on a full disk
        model.save_weights(partial)
        append_header(partial, header)


def save_slim(model, path: str | os.PathLike, header: Mapping[str, Any]) -> None:
    """Write a model that is not compiled, its weights in 16 bits and so a quarter of a run's checkpoint or less. The
    model is given the rounded weights, so that it is the one that the file holds. The header has "slim": true.

    Raises:
        WriteError: as `save_model_weights`.
        CheckpointError: if a weight is beyond the range of 16 bits.
    """
    for variable in model.variables:
        if np.abs(variable.numpy()).max(initial=0.0) > np.finfo(np.float16).max:
            raise CheckpointError(f"{path} cannot be written: a weight of the model is beyond the range of 16 bits")
        variable.assign(variable.numpy().astype(np.float16).astype(variable.numpy().dtype))
    header = {**header, "format": FORMAT, "model": model.arguments, "weights": weights_digest(model), "slim": True}
    with replacing(path, 2**20 + sum(variable.numpy().nbytes for variable in model.variables)) as partial:
        model.save_weights(partial)
        items = {}
        with h5py.File(partial, "r") as file:
            file.visititems(
                lambda name, item: items.update({name: item[()] if isinstance(item, h5py.Dataset) else None})
            )
        with h5py.File(partial, "w") as file:
            for name, values in items.items():
                if values is None:
                    file.create_group(name)
                else:
                    file[name] = values.astype(np.float16) if values.dtype == np.float32 else values
        append_header(partial, header)


def append_header(path: pathlib.Path, header: Mapping[str, Any]) -> None:
    """Add the header to an HDF5 file, and the seal at its end."""
    with h5py.File(path, "r+") as file:
        file[HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with open(path, "r+b") as file:
        file.write(seal(file.read()))


def weights_digest(model) -> str:
    """SHA-256 of the model's weights. It shows whether figures and a checkpoint are of the same weights."""
    sha256 = hashlib.sha256()
    for variable in model.weights:
        sha256.update(np.ascontiguousarray(variable.numpy()))
    return sha256.hexdigest()


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
    with reading(path):
        check_seal(path)
        with h5py.File(path, "r") as file:
            if HEADER not in list(file):  # `in file` would follow a link into another file
                raise CheckpointError(f"{path} was not written by this program: it has no header")
            refuse_all_but_plain_arrays(path, file)
            header = json.loads(bytes(file[HEADER][:]))
    refuse_other_types(path, header, {"format": int, "model": {}})
    if header["format"] > FORMAT:
        raise CheckpointError(f"{path} has format {header['format']}, this program reads up to {FORMAT}: update it")
    return header


def load_weights(model, path: str | os.PathLike) -> dict[str, Any]:
    """Load a checkpoint into a model of the same arguments, and into its optimizer if it is compiled and built. A slim
    checkpoint has nothing for the optimizer, which stays as it is.

    Returns:
        The header.

    Raises:
        CheckpointError: as `read_header`, or if the checkpoint is another model's; all tensors are then unchanged.
    """
    header = read_header(path)
    refuse_differences(path, model.arguments | header["model"], model.arguments)  # an older header may have fewer
    with reading(path), unchanged_on_failure(model), warnings.catch_warnings():
        # Keras only warns if the optimizer does not fit.
        warnings.filterwarnings("ignore" if header.get("slim") else "error", "Skipping variable loading")
        model.load_weights(path)
    return header


@contextlib.contextmanager
def unchanged_on_failure(model):
    """Restore all tensors if loading fails. Keras loads layer by layer, and would leave the first ones changed."""
    held = [variable.numpy() for variable in all_variables(model)]
    try:
        yield
    except Exception:
        for variable, value in zip(all_variables(model), held, strict=True):
            variable.assign(value)
        raise


def all_variables(model) -> list:
    optimizer = getattr(model, "optimizer", None)
    return [*model.variables, *(optimizer.variables if optimizer else [])]


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


def refuse_other_types(path: str | os.PathLike, value: Any, wanted: Any, name: str = "header") -> None:
    """Raise a CheckpointError that names what is missing or of another type.

    `wanted` is a type or a tuple of types; a dict of them by key (more keys are allowed); or a list of one for all.
    """
    kinds = {dict: dict, list: list}.get(type(wanted), wanted)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise CheckpointError(f"{path} is damaged or of another version: its {name} is {type(value).__name__}")
    if isinstance(wanted, dict):
        for key, part in wanted.items():
            if key not in value:
                raise CheckpointError(f"{path} is damaged or of another version: its {name} has no {key}")
            refuse_other_types(path, value[key], part, f"{name}'s {key}")
    elif isinstance(wanted, list):
        for row in value:
            refuse_other_types(path, row, wanted[0], f"{name}'s rows")


def seal(content: bytes | memoryview) -> bytes:
    """The bytes to append to this content. They show whether any of it has changed."""
    return SEAL + hashlib.sha256(content).digest()


def check_seal(path: pathlib.Path) -> None:
    """Raise a CheckpointError unless a file ends in the seal of the bytes before it."""
    content = memoryview(path.read_bytes())
    content, end = content[: -len(seal(b""))], bytes(content[-len(seal(b"")) :])
    if not end.startswith(SEAL):
        raise CheckpointError(f"{path} was not written by this program, or is damaged: it does not end in a seal")
    if end != seal(content):
        raise CheckpointError(f"{path} is damaged: its contents do not match their digest")


def refuse_all_but_plain_arrays(path: pathlib.Path, file: h5py.File) -> None:
    """Raise a CheckpointError if reading this file could lead to another one, or to more memory than its own size."""

    links = []
    file.visititems_links(lambda name, link: links.append((name, link)))
    for name, link in links:
        is_hard = isinstance(link, h5py.HardLink)
        if not is_hard or not (isinstance(file[name], h5py.Group) or is_plain(file[name], path.stat().st_size)):
            raise CheckpointError(f"{path} is no checkpoint: its {name} is not a plain array of numbers")


def is_plain(dataset: h5py.Dataset, file_size: int) -> bool:
    """Whether it is an array of numbers without attributes, as Keras writes it, and lies wholly in this file."""
    is_here = dataset.chunks is None and dataset.external is None and not dataset.is_virtual
    return is_here and dataset.dtype.kind in "biuf" and dataset.nbytes <= file_size and not len(dataset.attrs)


@contextlib.contextmanager
def reading(path: str | os.PathLike):
    """Turn any error of HDF5, JSON or Keras on a broken file into a CheckpointError of one line."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything in its readers
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}") from error
