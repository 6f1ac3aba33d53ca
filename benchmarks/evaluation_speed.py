"""Image-samples a second of the importance-weighted bound, against plain loops and against the decoder alone.

    python benchmarks/evaluation_speed.py [--model vae] [--num_samples 100] [--num_examples 10000]

Random images and untrained weights, whose cost is that of real ones. The plain loops, as they are and compiled, score
a part of the images, and their rate counts.
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

from trained.importance import ImportanceWeighter
from vae import build_model

MODELS = {
    "vae": {},
    "conv": {"network": "conv"},
    "vlae": {
        "network": "resnet",
        "activation": "elu",
        "window": 7,
        "prior": "flow",
        "latent_size": 12,
        "num_classes": 10,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="vae")
    parser.add_argument("--num_samples", type=int, default=100)
    parser.add_argument("--num_examples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    name = "vlae" if arguments.model == "vlae" else "vae"
    model = build_model(name, data_shape=(28, 28, 1), **MODELS[arguments.model])
    num, k = arguments.num_examples, arguments.num_samples
    rng = np.random.default_rng(0)
    x = (rng.random((num, 28, 28, 1)) < 0.2).astype(np.float32)
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, num)][:, : model.arguments["num_classes"]]
    some = max(num // 20, 1)

    def log_weights(x, labels, seed):
        condition = model.condition(labels)
        mean, logvar = model.encoder(x, condition)
        z = mean + tf.exp(0.5 * logvar) * tf.random.stateless_normal(tf.shape(mean), seed)
        return model.log_weight(x, z, mean, logvar, condition)

    def sample_at_a_time(log_weights):
        """The whole pass for every sample of batches of 500."""
        for start in range(0, 10 * some, 500):
            rows = slice(start, min(start + 500, 10 * some))
            weights = [log_weights(x[rows], labels[rows], tf.constant([start, i])).numpy() for i in range(k // 10)]
            np.logaddexp.reduce(weights, axis=0)

    def image_at_a_time(log_weights):
        """All samples of one image as a batch."""
        for i in range(some):
            of_image = np.repeat(x[i : i + 1], k, axis=0), np.repeat(labels[i : i + 1], k, axis=0)
            tf.reduce_logsumexp(log_weights(*of_image, tf.constant([i, 0]))).numpy()

    compiled = tf.function(log_weights, reduce_retracing=True)
    decode = tf.function(lambda z: model.likelihood_params(z, None))
    weighter = ImportanceWeighter(model)
    z = tf.random.stateless_normal((500, model.prior.latent_size), [0, 0])

    def decoder_alone():
        for _ in range(some * k // 500):
            decode(z)

    def ours():
        weighter.log_p(x, labels, np.arange(num), num_samples=k, seed=0)

    works = {
        "ours": (ours, num * k),
        "one sample at a time": (lambda: sample_at_a_time(log_weights), 10 * some * (k // 10)),
        "the same, compiled": (lambda: sample_at_a_time(compiled), 10 * some * (k // 10)),
        "one image at a time": (lambda: image_at_a_time(log_weights), some * k),
        "and compiled": (lambda: image_at_a_time(compiled), some * k),
        "decoder alone": (decoder_alone, some * k // 500 * 500),
    }
    compiled(x[:500], labels[:500], tf.constant([0, 0]))
    decode(z)
    rates = {name: [] for name in works}
    for _ in range(arguments.repeats):  # in turn
        for name, (work, image_samples) in works.items():
            started = time.perf_counter()
            work()
            rates[name].append(image_samples / (time.perf_counter() - started))
    medians = {name: float(np.median(found)) for name, found in rates.items()}
    print(f"{arguments.model}, {num:,} images, K = {k}: {num * k / medians['ours']:.1f} s")
    for name, rate in medians.items():
        print(f"{name:<22}{rate:>10,.0f} image-samples/s; ours is {medians['ours'] / rate:.2f} times as fast")


if __name__ == "__main__":
    main()
