"""The share of a conditional model's samples of MNIST that show the class asked for, judged by a classifier.

    python benchmarks/judge.py CHECKPOINT [CHECKPOINT ...] --data_dir DIR

The classifier is convolutional, and trained on the training digits, grey and binarized. It is stored in --judge, so a
second call takes seconds. Samples are those of `samples.png`: means of p(x|z), or draws where it has no mean.
"""

import argparse
import math
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from data import load_dataset
from vae import load

BATCH, EPOCHS, LEARNING_RATE, MOST_SHIFT = 128, 6, 2e-3, 2


def build() -> keras.Model:
    """Images (batch, 28, 28, 1) in [0, 1] -> logits (batch, 10)."""
    layers = [keras.Input((28, 28, 1))]
    for width in (32, 64, 128):
        layers += [keras.layers.Conv2D(width, 3, padding="same", use_bias=False), keras.layers.BatchNormalization()]
        layers += [keras.layers.ReLU(), keras.layers.MaxPooling2D()]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dropout(0.4), keras.layers.Dense(10)])


def binarized(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.random.stateless_uniform(tf.shape(x), seed) < x, tf.float32)


def prepare(number: tf.Tensor, x: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A training batch in float32, moved by a few pixels, every second image of it binarized."""
    x = tf.cast(x, tf.float32) / 255.0
    seed = tf.stack([tf.cast(number, tf.int32), 0])
    x = tf.roll(x, tf.random.stateless_uniform([2], seed, -MOST_SHIFT, MOST_SHIFT + 1, tf.int32), [1, 2])
    return tf.concat([x[::2], binarized(x[1::2], seed + 1)], axis=0), tf.concat([labels[::2], labels[1::2]], axis=0)


def train(dataset, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    judge, num = build(), len(dataset.train)
    batches = tf.data.Dataset.from_tensor_slices((dataset.train.x, dataset.train.labels))
    batches = batches.shuffle(num, seed).batch(BATCH, drop_remainder=True).repeat(EPOCHS).enumerate()
    batches = batches.map(lambda number, batch: prepare(number, *batch)).prefetch(2)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, EPOCHS * (num // BATCH))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.05)
    judge.compile(keras.optimizers.Adam(rate), loss)
    judge.fit(batches, verbose=2)
    return judge


def classes_of(judge: keras.Model, x: np.ndarray) -> np.ndarray:
    return judge.predict(x, batch_size=500, verbose=0).argmax(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="*", type=pathlib.Path)
    parser.add_argument("--judge", type=pathlib.Path, default="judge.weights.h5")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--num_samples", type=int, default=1000, help="per class")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    options = parser.parse_args()
    dataset = load_dataset("mnist", options.data_dir)
    if options.judge.exists():
        judge = build()
        judge.load_weights(options.judge)
    else:
        judge = train(dataset, seed=0)
        judge.save_weights(options.judge)
    x, real = dataset.test.x.astype(np.float32) / 255.0, dataset.test.labels.argmax(axis=1)
    for kind, images in (("grey", x), ("binarized", binarized(tf.constant(x), tf.constant([0, 1])).numpy())):
        print(f"judge: {100 * np.mean(classes_of(judge, images) == real):.2f} % of {len(x):,} test digits, {kind}")
    for path in options.checkpoints:
        model = load(path)
        if not model.is_conditional:
            print(f"{path}: not conditional, so no class is asked for")
            continue
        asked = np.repeat(np.arange(10), options.num_samples)
        samples = model.sample(len(asked), asked, options.seed)
        right = classes_of(judge, np.clip(samples, 0, 1)) == asked
        error = 100 * right.std(ddof=1) / math.sqrt(len(right))
        by_class = " ".join(f"{100 * share:.1f}" for share in right.reshape(10, -1).mean(axis=1))
        print(
            f"{path}: {100 * right.mean():.2f} ± {error:.2f} % of {len(right):,} samples (seed {options.seed}) show "
            f"the class asked for; by class {by_class}"
        )


if __name__ == "__main__":
    main()
