"""Where the time goes from the command to the first training steps, and of --help and --sample.

    python benchmarks/startup.py DATA_DIR [--repeats 3] [flags of assignment.py]

Each run is a new process. Between two of the stages below lies what the second one's line says.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
# Runs assignment.py, says when each stage has ended, and stops after the first return from training.
TRACED = f"""
import sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
def stage(name): print("STAGE", name, time.time(), flush=True)
stage("Python")
import assignment
def then(module, function, name):
    original = getattr(module, function)
    def traced(*args, **kwargs):
        result = original(*args, **kwargs)
        stage(name)
        return result
    setattr(module, function, traced)
from app import plan
from sources import quiet
then(plan, "make_plan", "flags and data")
import_tensorflow = quiet.import_tensorflow
def import_all():
    import_tensorflow()
    stage("import of TensorFlow")
    from app import verbs
    from training import loop
    stage("import of our modules and Keras's layers")
    then(verbs, "build_model", "weights")
    then(verbs, "make_model", "compile and optimizer")
    def first(self, step, figures):
        stage("batches, tracing, XLA, first steps")
        sys.exit(0)
    loop.Training.after_block = first
quiet.import_tensorflow = import_all
sys.exit(assignment.main())
"""


def stages(flags: list[str], folder: str) -> dict[str, float]:
    """Seconds of each stage of a training, in their order."""
    started = time.time()
    command = [sys.executable, "-c", TRACED, *flags]
    lines = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()
    times, before = {}, started
    for _, *name, ended in (line.split() for line in lines if line.startswith("STAGE")):
        times[" ".join(name)] = float(ended) - before
        before = float(ended)
    return times


def wall(arguments: list[str], folder: str) -> float:
    """Seconds of a whole process of Python."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments, flags = parser.parse_known_args()
    data = ["--dataset", "mnist", "--data_dir", str(arguments.data_dir.resolve())]
    with tempfile.TemporaryDirectory() as folder:
        found = [stages([*data, *flags], folder) for _ in range(arguments.repeats)]
        for name in found[0]:
            print(f"{statistics.median(run[name] for run in found):6.2f} s  {name}")
        print(f"{statistics.median(sum(run.values()) for run in found):6.2f} s  from the command to the first steps")
        script = str(REPOSITORY / "assignment.py")
        wall([script, *data, "--num_epochs", "1", *flags], folder)
        for title, asked in (
            ("--help", [script, "--help"]),
            ("--sample, end to end", [script, "--sample", *data, *flags]),
            ("for comparison, python -c 'import tensorflow'", ["-c", "import tensorflow"]),
        ):
            print(f"{statistics.median(wall(asked, folder) for _ in range(arguments.repeats)):6.2f} s  {title}")


if __name__ == "__main__":
    main()
