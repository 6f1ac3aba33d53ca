"""How much memory a run takes for each byte of its dataset: `python benchmarks/memory.py`.

Trains on .npz files of random 28 x 28 grey images of several sizes, each in a process of its own, and compares their
peak resident memory. What does not grow with the data (TensorFlow, the model) drops out of the slope.
"""

import pathlib
import resource
import subprocess
import sys
import tempfile

import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SIZES = (150_000, 300_000, 600_000, 1_200_000)


def train_and_report(dataset: str) -> None:
    """Run one training in this process and print its peak resident memory in bytes."""
    sys.path.insert(0, str(REPOSITORY))
    import assignment

    flags = ["--dataset", dataset, "--num_epochs", "1", "--hidden_dims", "32", "--batch_size", "1024"]
    if assignment.main(flags):
        sys.exit("training failed")
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def measure(folder: pathlib.Path, num: int) -> int:
    path = folder / f"random_{num}.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (num, 28, 28), dtype=np.uint8))
    done = subprocess.run([sys.executable, __file__, str(path)], cwd=folder, check=True, capture_output=True, text=True)
    path.unlink()
    return int(done.stdout.split()[-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        peaks = [measure(pathlib.Path(folder), num) for num in SIZES]
    sizes = [num * 28 * 28 for num in SIZES]
    for size, peak in zip(sizes, peaks, strict=True):
        print(f"{size / 1e6:6.0f} MB of data: peak {peak / 1e6:6.0f} MB")
    slope, constant = np.polyfit(sizes, peaks, 1)
    print(f"peak = {slope:.2f} x data + {constant / 1e6:.0f} MB")


if __name__ == "__main__":
    train_and_report(sys.argv[1]) if len(sys.argv) > 1 else main()
