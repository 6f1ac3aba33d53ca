"""Kingma and Welling 2014 again: the bound against training examples (figure 2), and the manifolds (figure 4).

    python benchmarks/kingma_welling.py --data_dir MNIST_DIR --frey_faces FILE.npz --to docs

Trains VAEs with 2, 5, 10 and 20 latents on both sets, with the paper's hidden widths (500 and 200) and batches of 100,
in a temporary folder. Not as in the paper: this program's Adam with averaged weights in place of Adagrad, GELU for
tanh, one learned scale of all pixels for Frey faces, and, so that it takes an hour on two cores, fewer examples.
"""

import argparse
import csv
import pathlib
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.image import imread  # noqa: E402

import visualize  # noqa: E402

LATENT_SIZES = (2, 5, 10, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", default="data", help="where MNIST's files are")
    parser.add_argument("--frey_faces", required=True, help="an .npz, or a folder of images")
    parser.add_argument("--examples", type=float, nargs=2, default=(3e6, 1e6), help="seen in training, MNIST and Frey")
    parser.add_argument("--to", default=".", help="folder for the two pictures")
    arguments = parser.parse_args()
    sets = {
        "MNIST": (["--dataset", "mnist", "--data_dir", pathlib.Path(arguments.data_dir).resolve(), "--likelihood",
                   "bernoulli", "--hidden_dims", "500"], 60_000, arguments.examples[0]),
        "Frey faces": (["--dataset", pathlib.Path(arguments.frey_faces).resolve(), "--likelihood", "sigma",
                        "--hidden_dims", "200"], 1_768, arguments.examples[1]),
    }  # fmt: skip
    curves, manifolds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (flags, num_train, examples) in sets.items():
            for latent_size in LATENT_SIZES:
                run_name = f"{name.split()[0].lower()}_{latent_size}"
                output_dir = train(folder, run_name, flags, latent_size, num_epochs=round(examples / num_train))
                history = read_history(output_dir)
                curves[name, latent_size] = {
                    "seen": history["epoch"] * num_train, "train": history["train_elbo"], "test": history["test_elbo"]
                }  # fmt: skip
                print(f"{run_name}: test ELBO {history['test_elbo'][-1]:.1f}", flush=True)
                if latent_size == 2:
                    manifolds[name] = imread(output_dir / "manifold.png")
    draw(curves, pathlib.Path(arguments.to, "kingma_welling.png"))
    draw_manifolds(manifolds, pathlib.Path(arguments.to, "kingma_welling_manifolds.png"))


def train(folder: str, run_name: str, flags: list, latent_size: int, num_epochs: int) -> pathlib.Path:
    """The output folder of a run."""
    command = [sys.executable, REPOSITORY / "assignment.py", *flags, "--network", "mlp", "--latent_size", latent_size,
               "--batch_size", 100, "--num_epochs", num_epochs, "--sample_and_save_frequency", num_epochs,
               "--run_name", run_name]  # fmt: skip
    print(f"{run_name}: {num_epochs} epochs", flush=True)
    subprocess.run([str(part) for part in command], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return pathlib.Path(folder, "outputs", "vae", run_name)


def read_history(output_dir: pathlib.Path) -> dict[str, np.ndarray]:
    with open(output_dir / "history.csv") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def draw(curves: dict[tuple[str, int], dict[str, np.ndarray]], path: pathlib.Path) -> None:
    """A row of panels for each set, with the same limits: from where all are past their first tenth."""
    figure = Figure(figsize=(13, 6), dpi=80, layout="constrained")
    names = list(dict.fromkeys(name for name, _ in curves))
    panels = figure.subplots(len(names), len(LATENT_SIZES), sharey="row")
    for row, name in zip(panels, names, strict=True):
        low = min(np.percentile(curves[name, latent_size]["test"], 10) for latent_size in LATENT_SIZES)
        high = max(curves[name, latent_size]["train"].max() for latent_size in LATENT_SIZES)
        row[0].set_ylim(low, high + 0.1 * (high - low))
        row[0].set_ylabel("bound (ELBO), nats per example")
        for axes, latent_size in zip(row, LATENT_SIZES, strict=True):
            curve = curves[name, latent_size]
            axes.plot(curve["seen"], curve["train"], "--", color="C1", label="training")
            axes.plot(curve["seen"], curve["test"], color="C0", label="test")
            axes.set_title(f"{name}, {latent_size} latents: {curve['test'][-1]:.1f}", fontsize=11)
            axes.set_xscale("log")
            axes.set_xlabel("training examples seen")
            axes.grid(alpha=0.3)
    panels[0, 0].legend(frameon=False)
    visualize.save(figure, path)


def draw_manifolds(manifolds: dict[str, np.ndarray], path: pathlib.Path) -> None:
    figure = Figure(figsize=(13, 7), dpi=80, layout="constrained")
    for axes, (name, picture) in zip(figure.subplots(1, len(manifolds)), manifolds.items(), strict=True):
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(f"{name}: the plane of two latents", fontsize=11)
    visualize.save(figure, path)


if __name__ == "__main__":
    main()
