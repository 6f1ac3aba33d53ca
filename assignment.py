"""Train, evaluate and sample variational autoencoders: `python assignment.py --help` lists the flags."""

import ctypes
import os
import sys

from app import flags
from training import interrupts


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for a failure told in one line, 130 after Ctrl-C, 143 after SIGTERM."""
    given = flags.parse_flags(argv)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # file names may hold what the screen cannot show
    try:
        with interrupts.handled_by(interrupts.stop):
            return run(given)
    except interrupts.Stopped as stopped:
        print(f"assignment.py: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except Exception:
        from app.records import versions

        ran = ", ".join(f"{name} {version}" for name, version in versions().items())
        print(f"assignment.py: this is a bug; please report it with all that follows ({ran})", file=sys.stderr)
        raise


def run(given: dict) -> int:
    foreseeable = (OSError, MemoryError)
    try:
        if "compare" in given:
            from app import compare as work
        else:
            keep_freed_memory(of_large_steps=given.get("model") == "vlae" or given.get("network") == "resnet")
            import_tensorflow(is_quiet=given.get("strategy") == "multi_worker")
            from app import runs as work
        foreseeable = work.FORESEEABLE
        work.run(given)
    except ModuleNotFoundError as error:
        return failed(f"{error}: pip install -r requirements.txt, or activate the environment that has it")
    except foreseeable as error:
        return failed(str(error) or type(error).__name__)
    return 0


def failed(message: str) -> int:
    print(f"assignment.py: error: {message.splitlines()[0]}", file=sys.stderr)
    return 1


def keep_freed_memory(of_large_steps: bool = False) -> None:
    """Have glibc keep large freed blocks for the next step. It would give them back, and the kernel would clear the
    pages anew: 35,000 in each step of a VLAE, an eighth of its time (benchmarks/README.md).

    Steps are large whose blocks do not fit into the arena of a thread, 64 MB. One arena for all threads serves these,
    and smaller ones it slows.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        return
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8  # malloc.h
    libc.mallopt(m_mmap_threshold, 2**30)
    libc.mallopt(m_trim_threshold, 2**31 - 1)
    if of_large_steps:
        libc.mallopt(m_arena_max, 1)


def import_tensorflow(is_quiet: bool) -> None:
    """Import TensorFlow without its start-up chatter, which it writes past Python straight to file descriptor 2.

    It tells of errors there, unless `is_quiet`: of a lost worker it does so at length.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if is_quiet else "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import visualize  # noqa: F401  Keras imports matplotlib, which MPLBACKEND can make fail but here
        import tensorflow as tf  # isort: skip

        tf.config.list_physical_devices("GPU")  # here, because it too writes to file descriptor 2
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


if __name__ == "__main__":
    sys.exit(main())
