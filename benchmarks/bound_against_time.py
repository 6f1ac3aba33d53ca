"""Draws the bound after every epoch against the minutes of training, with published figures as lines.

    python benchmarks/bound_against_time.py "VLAE=model_ckpts/vlae/mnist" "VAE=model_ckpts/vae/mnist" --to bounds.png

Each folder holds the checkpoints of a run on binarized MNIST that kept one after every epoch
(--sample_and_save_frequency 1). The bound is the test ELBO. A conditional model's is on log p(x|y); less log 10 it is a
bound on log p(x), since p(x) >= p(y) p(x|y).
"""

import argparse
import math
import pathlib
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from matplotlib.figure import Figure  # noqa: E402

import visualize  # noqa: E402
from app.run import read_run  # noqa: E402
from parts.catalogue import bound_on  # noqa: E402

# -log p(x) of MNIST, binarized dynamically, in nats
PUBLISHED = {"IWAE": 82.90, "IAF-VAE": 79.10, "VLAE (Chen et al.)": 78.53, "NVAE": 78.01}
LARGEST = 110  # nats; the first epochs may be worse


def curve(folder: pathlib.Path) -> tuple[list[float], list[float]]:
    """Minutes of training and minus the bound on log p(x) in nats, after each epoch whose checkpoint is there."""
    minutes, bounds = [], []
    for path in sorted(folder.glob("epoch_*.weights.h5")):
        header = read_run(path)
        if header["config"]["binarize"] != "dynamic":
            raise SystemExit(f"{path}: only --binarize dynamic is comparable")
        # The true class has probability 1/10, so its share of p(x) costs log 10.
        share = math.log(header["model"]["num_classes"]) if bound_on(header["model"]) == "log p(x|y)" else 0.0
        minutes.append(header["train_seconds"] / 60)
        bounds.append(share - header["history"][-1]["test_elbo"])
    return minutes, bounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--to", default="bounds.png")
    arguments = parser.parse_args()
    figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for run in arguments.runs:
        name, folder = run.split("=", 1)
        minutes, bounds = curve(pathlib.Path(folder))
        axes.plot(minutes, bounds, marker=".", label=f"{name}: {bounds[-1]:.1f}")
    for name, nats in PUBLISHED.items():
        axes.axhline(nats, color="0.6", linewidth=0.8)
        axes.text(1.01, nats, f"{name} {nats:.2f}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_ylim(top=LARGEST)
    axes.set_xlabel("minutes of training, two CPU cores")
    axes.set_ylabel("upper bound on -log p(x), nats (ELBO)")
    axes.grid(alpha=0.3)
    axes.legend()
    visualize.save(figure, arguments.to)


if __name__ == "__main__":
    main()
