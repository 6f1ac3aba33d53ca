"""Times a training step of a VLAE in this checkout and in another one, in turns.

    git worktree add ../before COMMIT
    python benchmarks/vlae_step.py --against ../before

Both train the same network on the same random images: resnet 32 64, 12 latents, batches of 128; unless flags say
otherwise a window of 7 and a flow as prior. Each round is a process of its own. The ratio is the median over the
rounds; the mean losses show that both learn alike.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
STEPS = 48  # timed, after as many that are not
ROUND = f"""
import json, sys, time
import assignment
assignment.keep_freed_memory(True)
import numpy as np, keras, tensorflow as tf
from training.loop import compile_model, exchanged_weights
from training.steps import Steps
from vae import build_model

keras.utils.set_random_seed(0)
data = {{"data_shape": (28, 28, 1), "num_classes": 10}}
parts = {{"network": "resnet", "hidden_dims": (32, 64), "activation": "elu", "latent_size": 12}}
model = build_model("vlae", **data, **parts, **json.loads(sys.argv[1]))
compile_model(model, 2e-3)
rng = np.random.default_rng(0)
strokes = np.repeat(np.repeat(rng.random(({STEPS} * 128, 7, 7, 1)), 4, axis=1), 4, axis=2)
x = (rng.random((*strokes.shape[:1], 28, 28, 1)) < strokes**3).astype(np.float32)
labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, len(x))]
seeds = np.stack([np.arange({STEPS}), np.arange({STEPS})], axis=1).astype(np.int32)
batches = tf.data.Dataset.zip(
    tf.data.Dataset.from_tensor_slices(x).batch(128, drop_remainder=True),
    tf.data.Dataset.from_tensor_slices(labels).batch(128, drop_remainder=True),
    tf.data.Dataset.from_tensor_slices(seeds),
)
steps = Steps(model)
for _ in range(2):
    model.reset_metrics()
    started, cpu = time.perf_counter(), time.process_time()
    with exchanged_weights(model):
        for _, figures in steps.train(batches):
            loss = float(figures["loss"])
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
print(1000 * seconds / {STEPS}, 1000 * cpu / {STEPS}, loss)
"""


def time_round(checkout: pathlib.Path, parts: dict[str, object]) -> tuple[float, float, float]:
    """Milliseconds and CPU milliseconds of a step, and the mean loss."""
    command = [sys.executable, "-c", ROUND, json.dumps(parts)]
    done = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
    return tuple(map(float, done.stdout.split()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", required=True, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=int, default=7)
    parser.add_argument("--prior", default="flow")
    parser.add_argument("--pixel_dims", type=int, nargs="+", help="checkouts from before these have none")
    parser.add_argument("--mixed_precision", action="store_true", help="in this checkout, not in the other one")
    arguments = parser.parse_args()
    parts = {"window": arguments.window, "prior": arguments.prior}
    parts |= {"pixel_dims": arguments.pixel_dims} if arguments.pixel_dims else {}
    parts = {"this": parts | {"mixed_precision": arguments.mixed_precision}, "other": parts}
    checkouts = {"this": REPOSITORY, "other": pathlib.Path(arguments.against)}
    rounds = {name: [] for name in checkouts}
    for number in range(arguments.rounds):
        for name in sorted(checkouts, reverse=number % 2 == 1):
            rounds[name].append(time_round(checkouts[name], parts[name]))
            wall, cpu, loss = rounds[name][-1]
            print(f"{name:<6} {wall:6.1f} ms a step, CPU {cpu:6.1f} ms, mean loss {loss:.3f}", flush=True)
    for part, title in enumerate(("time", "CPU time")):
        ratio = statistics.median(
            other[part] / this[part] for this, other in zip(rounds["this"], rounds["other"], strict=True)
        )
        print(f"{title} of the other / of this, median of {arguments.rounds} rounds: {ratio:.2f}")


if __name__ == "__main__":
    main()
