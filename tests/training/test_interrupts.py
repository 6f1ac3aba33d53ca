"""Signals in processes of their own, whose main thread is in one long operation that Python cannot break into."""

import signal
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY, take_all_signals

LONG = "hashlib.pbkdf2_hmac('sha256', b'', b'', {})"
PROGRAM = f"""
import hashlib, sys
from training import interrupts
try:
    with interrupts.handled_by(interrupts.stop), interrupts.deferred() as received:
        print("ready", flush=True)
        {LONG}
        print("step ended", received, flush=True)
    print("not reached")
except interrupts.Stopped as stopped:
    sys.exit(stopped.exit_code)
"""


def start(seconds):
    rounds = int(seconds * calibrated())
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(rounds)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=take_all_signals,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def calibrated():
    """Rounds a second of the long operation."""
    import hashlib

    started = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)
    return 100_000 / (time.perf_counter() - started)


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_the_first_signal_waits_for_the_step_and_says_so(number, exit_code):
    process = start(seconds=3)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert out == f"step ended [{int(number)}]\n"
    assert errors == "\nstopping after this step; once more to stop at once\n"


def test_a_short_step_ends_without_a_word():
    process = start(seconds=0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == ""


@pytest.mark.parametrize("pause", [0.2, 2])
def test_the_second_signal_does_not_wait(pause):
    process = start(seconds=60)
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""


def test_the_second_signal_does_not_wait_where_the_terminal_is_gone():
    process = start(seconds=60)
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    time.sleep(2)
    process.send_signal(signal.SIGHUP)
    assert process.stdout.read() == ""
    assert process.wait(timeout=20) == 129


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])  # SIGHUP is ignored under nohup
def test_an_ignored_signal_stays_ignored(number):
    program = (
        "import os\nfrom training import interrupts\n"
        f"with interrupts.handled_by(interrupts.stop): os.kill(os.getpid(), {int(number)})\nprint('on')"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )
    assert process.stdout == "on\n"
