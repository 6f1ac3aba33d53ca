"""Files that are whole or not there: what a run writes replaces what was there only once it is on the disk."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from storage.errors import UserError

PARTIAL = ".partial."  # begins the names of files under way; their endings stay, which writers go by


class WriteError(UserError, OSError):
    """A file or folder cannot be written; the message says which, why, and what to try."""


@contextlib.contextmanager
def naming_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn what goes wrong in writing a file into a WriteError that names it."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise WriteError(
            f"cannot write {path}: {reason}. An earlier file there is untouched; make room or choose another folder"
        ) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike, size: int = 0) -> Iterator[pathlib.Path]:
    """The path of a new file to write, which takes the place of `path` at the end of the context.

    Args:
        size: bytes that there must be room for, since some writers do not fail well where there is none.

    Raises:
        WriteError: if it cannot be written, as on a full disk; what was at `path` is untouched then, as it is after
            any other exception.
    """
    path = pathlib.Path(path)
    make_folder(path.parent)
    partial = path.with_name(f"{PARTIAL}{os.getpid()}.{path.name}")
    try:
        with naming_errors(path):
            if size:
                partial.write_bytes(bytes(size))
            yield partial
            with open(partial, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def make_folder(folder: str | os.PathLike) -> None:
    """Make a folder that can be written to, if it is not there.

    Raises:
        WriteError: if that cannot be.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        raise WriteError(f"cannot make the folder {folder}: a file is in its place") from None
    except OSError as error:
        raise WriteError(f"cannot make the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise WriteError(f"the folder {folder} cannot be written to: choose another or change its permissions")


def remove_partial(folder: str | os.PathLike) -> None:
    """Delete what a killed run left half-written in its folder."""
    for partial in pathlib.Path(folder).glob(f"{PARTIAL}*"):
        partial.unlink(missing_ok=True)
