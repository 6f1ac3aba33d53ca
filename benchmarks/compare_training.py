"""Training, images per second: ours against the same networks in PyTorch and against their matrix products alone.

    python benchmarks/compare_training.py DATA_DIR [--networks dense default conv] [--rounds 5] [--pytorch PYTHON]

Each contestant is a process of its own that stays; they take turns, a round each, on MNIST's training images in batches
of 128 on two cores. PYTHON is the interpreter of an environment with requirements.txt of this folder.
dense: 784-400-20-400-784, ReLU. default: our default network. conv: our convolutional one. Ours also averages the
weights and keeps the means of four figures; PyTorch keeps one sum.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import assignment

BATCH = 128
NETWORKS = {
    "dense": {"network": "mlp", "hidden_dims": [400], "latent_size": 20, "activation": "relu"},
    "default": {"network": "mlp"},
    "conv": {"network": "conv"},
}
STEPS = {"dense": 468, "default": 468, "conv": 100}
PEERS = {"dense": ("stock", "fair", "fused", "compiled")}


def train_ours(data_dir: str, network: str, num_steps: int):
    """A function that trains for one round, by the path that `assignment.py` takes."""
    assignment.keep_freed_memory()
    from data import load_dataset
    from sources.batches import training_batches
    from training.loop import compile_model, exchanged_weights
    from training.steps import Steps
    from vae import build_model

    examples = load_dataset("mnist", data_dir).train
    model = build_model("vae", data_shape=(28, 28, 1), **NETWORKS[network])
    compile_model(model)
    epoch_batches = training_batches(examples, BATCH, seed=0, binarize="none")
    steps, rounds = Steps(model), iter(range(1_000_000))

    def one_round():
        with exchanged_weights(model):
            for _ in steps.train(epoch_batches(next(rounds)).take(num_steps)):
                pass

    return one_round


def multiply(data_dir: str, network: str, num_steps: int):
    """A function that computes what a round's steps have of matrix products, and nothing else.

    Of a convolution, the product and its two gradients too; no gradient for the image.
    """
    assignment.keep_freed_memory()
    import tensorflow as tf

    from vae import build_model

    model = build_model("vae", data_shape=(28, 28, 1), **NETWORKS[network])
    shapes, inputs = [tuple(v.shape) for v in model.trainable_variables if len(v.shape) in (2, 4)], []
    side = 28
    for shape in shapes:
        if len(shape) == 2:
            inputs.append((tf.random.normal((BATCH, shape[0])), tf.random.normal((BATCH, shape[1])), 1))
            continue
        stride = 2 if shape[3] in (32, 64) else 1  # the encoder's halve, the decoder's fill four pixels for one
        output = side // stride
        inputs.append(
            (
                tf.random.normal((BATCH, side, side, shape[2])),
                tf.random.normal((BATCH, output, output, shape[3])),
                stride,
            )
        )
        side = output if stride == 2 else side * 2
    kernels = [tf.random.normal(shape) for shape in shapes]

    @tf.function
    def products():
        results = []
        for i, (kernel, (x, gradient, stride)) in enumerate(zip(kernels, inputs, strict=True)):
            with tf.GradientTape() as tape:
                watched = [kernel, x] if i else [kernel]
                tape.watch(watched)
                y = tf.matmul(x, kernel) if len(kernel.shape) == 2 else tf.nn.conv2d(x, kernel, stride, "SAME")
            results += [y, *tape.gradient(y, watched, gradient)]
        return results

    def one_round():
        for _ in range(num_steps):
            products()

    return one_round


def work(make, data_dir: str, network: str, num_steps: int) -> None:
    """One round for every line that comes in: its images per second, and the peak memory so far in MB."""
    one_round = make(data_dir, network, num_steps)
    for _ in sys.stdin:
        started = time.perf_counter()
        one_round()
        rate = num_steps * BATCH / (time.perf_counter() - started)
        print(rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


WORKERS = {"ours": train_ours, "products": multiply}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pytorch", default=sys.executable)
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        work(WORKERS[flags.worker], flags.data_dir, flags.networks[0], STEPS[flags.networks[0]])
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # of all contestants
    for network in flags.networks:
        compare(network, flags)


def compare(network: str, flags: argparse.Namespace) -> None:
    commands = {
        name: [sys.executable, __file__, flags.data_dir, "--networks", network, "--worker", name] for name in WORKERS
    }
    for variant in PEERS.get(network, ("fair", "fused", "compiled")):
        script = str(pathlib.Path(__file__).with_name("pytorch_networks.py"))
        commands[f"pytorch {variant}"] = [flags.pytorch, script, flags.data_dir, network, variant, str(STEPS[network])]
    workers = {
        name: subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for name, command in commands.items()
    }
    rates = {name: [] for name in workers}
    memory = {}
    for number in range(1 + flags.rounds):  # the first one compiles
        for name, worker in workers.items():
            print(number, file=worker.stdin, flush=True)
            line = worker.stdout.readline() or sys.exit(f"{name} failed: {' '.join(commands[name])}")
            rate, *_, memory[name] = map(float, line.split())
            if number:
                rates[name].append(rate)
    for worker in workers.values():
        worker.communicate()
    print(f"{network}, batches of {BATCH}, medians of {flags.rounds} rounds of {STEPS[network]} steps")
    for name, found in rates.items():
        ratio = statistics.median(ours / other for ours, other in zip(rates["ours"], found, strict=True))
        share = f"ours is {ratio:.2f} times as fast" if name != "ours" else ""
        print(
            f"  {name:<17} {statistics.median(found):>9,.0f} images/s  peak {memory[name]:>5,.0f} MB  {share}".rstrip()
        )


if __name__ == "__main__":
    main()
