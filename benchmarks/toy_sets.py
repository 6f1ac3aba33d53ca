"""Trains the VAE with two priors and the CVAE on the three toy sets, and draws docs/toy_sets.png (6 minutes).

Run it in an empty folder: `python PATH/TO/benchmarks/toy_sets.py`.
"""

import pathlib
import subprocess
import sys

import numpy as np
from matplotlib.figure import Figure

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import visualize  # noqa: E402
from data import load_dataset  # noqa: E402


def samples(name: str, model: str, *flags: str) -> tuple[np.ndarray, np.ndarray | None]:
    """1,500 points of a run with these flags, with their classes if it is conditional."""
    run = "-".join([name, *(flag.strip("-") for flag in flags)])
    command = [sys.executable, str(REPOSITORY / "assignment.py"), "--dataset", name, "--model", model, *flags]
    command += ["--run_name", run]
    subprocess.run(command, check=True)
    num = 1500 if model == "vae" else 1500 // load_dataset(name).num_classes
    subprocess.run([*command, "--sample", "--num_samples", str(num)], check=True)
    arrays = np.load(f"outputs/{model}/{run}/samples.npz")
    return arrays["points"], arrays.get("labels")


def main() -> None:
    figure = Figure(figsize=(12, 9.4), dpi=80, layout="constrained")
    rows = figure.subplots(3, 4, sharex="row", sharey="row")
    for axes, name in zip(rows, ("moons", "circles", "blobs"), strict=True):
        test = load_dataset(name).test[:1500]
        panels = {
            f"{name}: test data": (test.x, test.labels.argmax(axis=1)),
            "VAE": samples(name, "vae"),
            "VAE, --prior mixture": samples(name, "vae", "--prior", "mixture"),
            "CVAE, a class a colour": samples(name, "cvae"),
        }
        for ax, (title, (points, classes)) in zip(axes, panels.items(), strict=True):
            visualize.scatter(ax, points, classes, "012")
            ax.set_title(title, fontsize=11)
            ax.set_xticks([])
            ax.set_yticks([])
    visualize.save(figure, REPOSITORY / "docs" / "toy_sets.png")


if __name__ == "__main__":
    main()
