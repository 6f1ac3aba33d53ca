"""Standard streams with which printing never ends a run."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from storage.files import WriteError

LOST = (errno.EPIPE, errno.EIO, errno.EBADF)  # a pipe without a reader, a terminal that was closed, a closed stream


class Unbroken:
    """A text stream that drops its text once nobody reads it any more, as after `| head -1`."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> int:
        with self.silent_if_broken():
            return self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self.silent_if_broken():
            self.stream.flush()

    @contextlib.contextmanager
    def silent_if_broken(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in LOST:
                raise WriteError(f"cannot write to the screen or its log: {error.strerror}") from error
            to_nowhere(self.stream.fileno())  # also what the stream still buffers

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def to_nowhere(descriptor: int) -> None:
    """Redirect a file descriptor to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextlib.contextmanager
def unbroken_streams() -> Iterator[None]:
    """Within this context stdout and stderr accept any text, whatever their encoding, even if they are closed."""
    before = sys.stdout, sys.stderr
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:  # it was closed by whoever started the program
            to_nowhere(descriptor)
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
        if hasattr(getattr(sys, name), "reconfigure"):  # a notebook's streams lack it and do not need it
            getattr(sys, name).reconfigure(errors="backslashreplace")  # file names may have undecodable characters
        setattr(sys, name, Unbroken(getattr(sys, name)))
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before
