"""Ctrl-C, SIGTERM and SIGHUP (the terminal closes). The first signal stops the program at the next safe point, a second
one at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))  # Windows has no SIGHUP


class Stopped(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP stopped the program; the message says where."""

    def __init__(self, number: int, message: str = "stopped"):
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number


def stop(number: int, frame=None) -> NoReturn:
    raise Stopped(number)


@contextlib.contextmanager
def handled_by(handler) -> Iterator[None]:
    """Within this context the signals call `handler`. One that was ignored before, as under nohup, stays ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: earlier for number, earlier in before.items() if earlier != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def deferred() -> Iterator[list[int]]:
    """Within this context signals are only added to the list that it gives; the first is raised at the end. A second
    one ends the process at once, even during a long operation of TensorFlow."""
    received = []
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    watcher = threading.Thread(target=exit_at_the_second, args=(receiver,), daemon=True)
    watcher.start()
    earlier = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        with handled_by(lambda number, frame: received.append(number)):
            yield received
    finally:
        signal.set_wakeup_fd(earlier)
        sender.close()
        watcher.join()
        receiver.close()
    if received:
        stop(received[0])


def exit_at_the_second(receiver: socket.socket) -> None:
    """Read signal numbers, which arrive as bytes as soon as they are sent. Python's handlers wait for TensorFlow."""
    if not receiver.recv(1):
        return
    time.sleep(0.1)
    with contextlib.suppress(BlockingIOError):
        receiver.setblocking(False)
        receiver.recv(100)  # a parent process may pass on the Ctrl-C that this one has received already
    receiver.settimeout(1)
    try:
        number = receiver.recv(1)
    except TimeoutError:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("\nstopping after this step; once more to stop at once", file=sys.stderr, flush=True)
        receiver.settimeout(None)
        number = receiver.recv(1)
    if number:
        os._exit(128 + number[0])
