"""Train, evaluate and sample variational autoencoders: `python assignment.py --help` lists the flags."""

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `main` handles it, Ctrl-C ends the program without a traceback

import os
import warnings


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for a failure reported in one line, 128 + the number of a signal."""
    from app.flags import parse_flags

    given = parse_flags(argv)
    from app.screen import unbroken_streams
    from training import interrupts

    with unbroken_streams():
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
    """Do what the flags ask for. Flags, checkpoint and data are checked before TensorFlow is imported."""
    from sources.quiet import import_tensorflow
    from storage.errors import UserError

    try:
        if "compare" in given:
            from app.compare import compare as perform

            perform(given)
        else:
            from app.plan import make_plan, open_source

            if given.get("strategy") == "multi_worker":
                os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it prints pages about a lost worker
            source = open_source(given)
            keep_freed_memory(of_large_steps=source.has_large_steps)
            strategy = None
            if source.setting("strategy") != "none":  # needed before TensorFlow computes, e.g. to load data
                import_tensorflow()
                from training.devices import make_strategy

                strategy = make_strategy(*map(source.setting, ("strategy", "device", "num_replicas")))
            plan = make_plan(source)
            import_tensorflow()
            from app.verbs import perform

            perform(plan, strategy)
    except ModuleNotFoundError as error:
        return failed(f"{error}: pip install -r requirements.txt, or activate the environment that has it")
    except (UserError, OSError, MemoryError) as error:
        return failed(str(error) or type(error).__name__)
    return 0


def failed(message: str) -> int:
    print(f"assignment.py: error: {message.splitlines()[0]}", file=sys.stderr)
    return 1


def keep_freed_memory(of_large_steps: bool = False) -> None:
    """Have glibc keep large freed blocks for the next step. By default it returns them, and the kernel has to clear the
    pages again: 35,000 in each step of a VLAE, an eighth of its time (benchmarks/README.md).

    A step is large if its blocks do not fit into a thread's arena of 64 MB. A single arena for all threads makes large
    steps faster and small ones slower.
    """
    import ctypes

    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        return
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8  # malloc.h
    libc.mallopt(m_mmap_threshold, 2**30)
    libc.mallopt(m_trim_threshold, 2**31 - 1)
    if of_large_steps:
        libc.mallopt(m_arena_max, 1)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the libraries' warnings; PYTHONWARNINGS=error would end the program
    sys.exit(main())
