"""How time and memory grow with the data, the image's side, the batch, the code and the importance samples.

    python benchmarks/scaling.py [--to scaling.png] [--network mlp]

One thing is varied at a time, from 10,000 random 28x28 images, batches of 128 and 15 latents. Every point is a process
of its own, whose second epoch is timed; its peak memory includes TensorFlow's. The exponent p of seconds ~ size^p is
fitted to the larger half of the sizes, where the fixed costs are small.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np

import assignment

BASE = {"examples": 10_000, "side": 28, "batch": 128, "latents": 15, "samples": 0}
AXES = {
    "examples": (1_000, 10_000, 60_000, 600_000),
    "side": (28, 56, 112),
    "batch": (32, 128, 512, 2_048),
    "latents": (2, 8, 32, 128, 512),
    "samples": (10, 100, 1_000),
}
UNITS = {
    "examples": "training images",
    "side": "pixels along the side",
    "batch": "images in a batch",
    "latents": "latents",
    "samples": "samples, of 200 images",
}


def measure(network: str, examples: int, side: int, batch: int, latents: int, samples: int) -> dict[str, float]:
    """Seconds of the second epoch, or of the bound's second pass where `samples` are asked for; peak memory in MB."""
    assignment.keep_freed_memory()
    from sources.batches import training_batches
    from sources.examples import Examples
    from trained.importance import ImportanceWeighter
    from training.loop import compile_model, exchanged_weights
    from training.steps import Steps
    from vae import build_model

    images = np.random.default_rng(0).integers(0, 256, (examples, side, side, 1), dtype=np.uint8)
    data = Examples(images, np.zeros((examples, 0), np.uint8))
    model = build_model("vae", data_shape=(side, side, 1), network=network, latent_size=latents)
    compile_model(model)
    epoch_batches = training_batches(data, batch, seed=0, binarize="none")
    weighter = ImportanceWeighter(model)
    steps = Steps(model)

    def work(number):
        if samples:
            x = images[:200].astype(np.float32) / 255
            labels = np.zeros((200, 0), np.float32)
            weighter.log_p(x, labels, np.arange(200), num_samples=samples, seed=number)
        else:
            with exchanged_weights(model):
                for _ in steps.train(epoch_batches(number)):
                    pass

    work(0)
    started = time.perf_counter()
    work(1)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=pathlib.Path, default=pathlib.Path("scaling.png"))
    parser.add_argument("--network", default="mlp")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(arguments.network, **arguments.point)))
        return
    found = {}
    for axis, sizes in AXES.items():
        for size in sizes:
            point = json.dumps(BASE | {axis: size})
            command = [sys.executable, __file__, "--network", arguments.network, "--point", point]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            found.setdefault(axis, []).append(json.loads(done.stdout))
            seconds, memory = found[axis][-1].values()
            print(f"{axis:<9}{size:>8,}  {seconds:8.2f} s  {memory:7,.0f} MB", flush=True)
        powers = (
            f"{name} ~ size^{exponent(sizes, [point[name] for point in found[axis]]):.2f}" for name in found[axis][0]
        )
        print(f"{axis}: {', '.join(powers)}")
    draw(found, arguments.to, arguments.network)


def exponent(sizes, values) -> float:
    upper = slice(len(sizes) // 2, None)
    return round(np.polyfit(np.log(sizes[upper]), np.log(values[upper]), 1)[0], 2) + 0.0  # no -0.00


def draw(found: dict[str, list[dict[str, float]]], path: pathlib.Path, network: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (3 * len(AXES), 5.4)
    figure, rows = pyplot.subplots(2, len(AXES), figsize=size, sharex="col", sharey="row", layout="constrained")
    for above, below, (axis, sizes) in zip(*rows, AXES.items(), strict=True):
        seconds, memory = ([point[name] for point in found[axis]] for name in ("seconds", "memory"))
        above.loglog(sizes, seconds, "ko-")
        above.set_title(f"seconds ~ {axis}^{exponent(sizes, seconds):.2f}", fontsize=10)
        below.semilogx(sizes, memory, "ks--")
        below.set_title(f"MB ~ {axis}^{exponent(sizes, memory):.2f}", fontsize=10)
        below.set_ylim(0, 2500)
        below.set_xlabel(UNITS[axis], fontsize=9)
        below.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8, minor=False)
        below.set_xticks([], minor=True)
        for plot in (above, below):
            plot.grid(alpha=0.3)
    rows[0, 0].set_ylabel("seconds")
    rows[0, 0].yaxis.set_major_formatter("{x:g}")
    rows[1, 0].set_ylabel("peak memory, MB")
    figure.suptitle(
        f"A VAE with the network {network}: an epoch of 10,000 images, 28x28, in batches of 128, 15 latents; "
        "on the right the bound on log p(x)"
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
