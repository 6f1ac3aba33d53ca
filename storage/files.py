"""Files that are complete or absent: a new file replaces an earlier one only when all of it is on the disk."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from storage.errors import UserError

PARTIAL = ".partial."  # begins the names of unfinished files; writers infer the format from their endings


class WriteError(UserError, OSError):
    """A file or folder cannot be written; the message says which, why, and what to try."""


@contextlib.contextmanager
def naming_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError in writing a file into a WriteError that names the file."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise WriteError(
            f"cannot write {path}: {reason}. An earlier file there is untouched; make room or choose another folder"
        ) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike, size: int = 0) -> Iterator[pathlib.Path]:
    """Gives the path of a new file to write, which replaces `path` at the end of the context.

    Args:
        size: bytes to reserve first, because some writers fail badly on a full disk.

    Raises:
        WriteError: if it cannot be written, as on a full disk. An earlier file at `path` is then untouched, as after
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
    """Make a folder, if it is not there, and check that it can be written to.

    Raises:
        WriteError: if it cannot be made or written to.
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
    """Delete the unfinished files that a killed run left in its folder."""
    for partial in pathlib.Path(folder).glob(f"{PARTIAL}*"):
        partial.unlink(missing_ok=True)
