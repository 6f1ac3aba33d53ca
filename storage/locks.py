"""One training at a time in a run's folders."""

import contextlib
import os
import pathlib
import socket
import time
from collections.abc import Iterable, Iterator

import filelock

from storage.errors import UserError
from storage.files import make_folder, naming_errors


class RunHeldError(UserError):
    """Another process trains in the folder; the message says which."""


@contextlib.contextmanager
def holding(folders: Iterable[pathlib.Path]) -> Iterator[None]:
    """Lock folders, which need not exist yet. The operating system unlocks them when the process ends or is killed.

    Raises:
        RunHeldError: if another process holds one of them.
        WriteError: if a lock cannot be written beside a folder.
    """
    with contextlib.ExitStack() as held:
        for folder in {folder.resolve(): folder for folder in folders}.values():
            held.enter_context(holding_one(folder))
        yield


@contextlib.contextmanager
def holding_one(folder: pathlib.Path) -> Iterator[None]:
    make_folder(folder.parent)
    holder = folder.with_name(f".{folder.name}.holder")  # a file of its own: opening the lock file empties it
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    with naming_errors(lock.lock_file):
        try:
            held = lock.acquire()
        except filelock.Timeout:
            holder_text = holder.read_text() if holder.is_file() else "another process"
            raise RunHeldError(
                f"another training holds {folder} ({holder_text}): wait for its end, or name this one with --run_name"
            ) from None
    with held:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            with naming_errors(holder):
                holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {since}")
            yield
        finally:
            holder.unlink(missing_ok=True)
