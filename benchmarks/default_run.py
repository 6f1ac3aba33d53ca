"""The default command against PyTorch's stock VAE example: whole processes, in turn, on the same data.

python benchmarks/default_run.py DATA_DIR [--runs 3] [--pytorch PYTHON]: DATA_DIR holds MNIST's four gzipped IDX files,
PYTHON is the interpreter of an environment with torch (default: this one).
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def measure(command: list[str], folder: str) -> tuple[float, float, float]:
    """Wall seconds of the whole process, seconds in its training epochs, and its last test ELBO."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - started
    epochs = re.findall(r"^epoch.*test elbo (-[\d.]+).*\| ([\d.]+) s$", done.stdout, flags=re.MULTILINE)
    return wall, sum(float(seconds) for _, seconds in epochs), float(epochs[-1][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pytorch", default=sys.executable)
    flags = parser.parse_args()
    data_dir = str(flags.data_dir.resolve())
    commands = {
        "ours": [sys.executable, str(REPOSITORY / "assignment.py"), "--data_dir", data_dir, "--dataset", "mnist"],
        "pytorch": [flags.pytorch, str(REPOSITORY / "benchmarks" / "pytorch_vae.py"), data_dir, "10"],
    }
    results = {name: [] for name in commands}
    for _ in range(flags.runs):
        for name, command in commands.items():
            with tempfile.TemporaryDirectory() as folder:
                results[name].append(measure(command, folder))
            wall, epochs, elbo = results[name][-1]
            print(f"{name:8} {wall:6.1f} s in all, {epochs:6.1f} s in its epochs, test elbo {elbo:.2f}", flush=True)
    for column, what in enumerate(("whole process", "training epochs")):
        ratios = [ours[column] / theirs[column] for ours, theirs in zip(*results.values(), strict=True)]
        print(f"{what}: ours / pytorch, median of {flags.runs} pairs: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
