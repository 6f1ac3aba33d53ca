"""Train, evaluate and sample variational autoencoders: `python assignment.py --help` lists the flags."""

import os
import signal
import sys

import flags


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: what Ctrl-C does, with another exit code."""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for a failure told in one line, 130 after Ctrl-C, 143 after SIGTERM."""
    given = flags.parse_flags(argv)
    signal.signal(signal.SIGTERM, raise_terminated)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # file names may hold what the screen cannot show
    try:
        if "compare" in given:
            import comparison as work
        else:
            import_tensorflow()
            import runs as work
        try:
            work.run(given)
        except work.FORESEEABLE as error:
            lines = str(error).splitlines() or [type(error).__name__]
            print(f"assignment.py: error: {lines[0]}", file=sys.stderr)
            return 1
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    return 0


def raise_terminated(*_) -> None:
    raise Terminated


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up chatter, which it writes past Python straight to file descriptor 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")  # here, because it too writes to file descriptor 2
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


if __name__ == "__main__":
    sys.exit(main())
