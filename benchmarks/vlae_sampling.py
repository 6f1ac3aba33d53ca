"""How long a VLAE takes to draw 100 digits: the compiled loop over pixels against a whole pass for every pixel.

    python benchmarks/vlae_sampling.py [--batch 100] [--window 11]

Both draw the same images from the same seed, with untrained weights, whose cost is that of trained ones.
"""

import argparse
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

from vae import build_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--window", type=int, default=11, help="odd, at least 3")
    arguments = parser.parse_args()
    model = build_model(
        "vlae", data_shape=(28, 28, 1), num_classes=10, latent_size=12, network="resnet", activation="elu",
        prior="flow", window=arguments.window, pixel_dims=(64,) * 5,
    )  # fmt: skip
    labels = tf.one_hot(np.arange(arguments.batch) % 10, 10)
    seed = tf.constant([0, 1])

    started = time.perf_counter()
    model.sample(arguments.batch, labels, 0)
    print(f"first call, with compilation: {time.perf_counter() - started:.2f} s")
    seconds = []
    for repeat in range(7):
        started = time.perf_counter()
        images = model.sample(arguments.batch, labels, repeat).numpy()
        seconds.append(time.perf_counter() - started)
    fast = statistics.median(seconds)
    print(
        f"{arguments.batch} images, prior and decoder included: {fast:.3f} s (median of 7, {min(seconds):.3f} at best)"
    )

    z = model.prior.sample(arguments.batch, tf.constant([0, 0]), labels)
    features = model.likelihood_params(z, None)

    @tf.function
    def whole_pass(x, uniform):
        return model.likelihood.pixel.draw(model.likelihood.params(x, features), uniform)

    @tf.function
    def whole_pass_with_decoder(x, uniform):
        return model.likelihood.pixel.draw(model.likelihood.params(x, model.likelihood_params(z, None)), uniform)

    def naive(draw) -> np.ndarray:
        x = np.zeros((arguments.batch, 28, 28, 1), np.float32)
        uniform = tf.random.stateless_uniform(x.shape, seed, minval=1e-7)
        for row in range(28):
            for column in range(28):
                x[:, row, column] = draw(tf.constant(x), uniform)[:, row, column]
        return x

    for name, draw in (("p(x|z)", whole_pass), ("decoder and p(x|z)", whole_pass_with_decoder)):
        draw(tf.zeros_like(images), tf.zeros_like(images))  # traced
        started = time.perf_counter()
        x = naive(draw)
        slow = time.perf_counter() - started
        different = np.sum(np.abs(x - model.sample(arguments.batch, labels, 0)) > 1e-6)
        print(
            f"a whole pass of {name} for every pixel: {slow:.1f} s, {slow / fast:.0f} times as long; "
            f"{different} of {x.size} pixels differ"
        )


if __name__ == "__main__":
    main()
