"""Arrays -> tf.data batches.

Everything random here is a pure function of (seed, epoch) or (seed, step): a run that was stopped and continued sees
the same batches, with the same binarization noise, as one that never stopped.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from sources.examples import Examples
from sources.readers import ALIGNMENT

TEST_BATCH_SIZE = 500  # not the user's batch size, so that test figures do not depend on it
TRAIN_STREAM, SHUFFLE_STREAM, TEST_STREAM, BINARIZE_STREAM, FLIP_STREAM, LABELLED_STREAM = range(6)
LEAST_LABELLED = 4  # one example of a batch in so many has a label at least


def training_batches(
    examples: Examples,
    batch_size: int,
    *,
    seed: int,
    binarize: str,
    flip: bool = False,
    labelled: np.ndarray | None = None,
) -> Callable[..., tf.data.Dataset]:
    """A function from an epoch, counted from 0, to its batches (x, labels, step seed), beginning with batch `first`.

    An epoch is a permutation of the examples that depends on (seed, epoch) alone. The examples after its last whole
    batch are not used in that epoch. x: float32, images in [0, 1]; labels: float32. With `flip` every image is mirrored
    left to right in about half of the epochs.

    `labelled` are the row numbers of the examples that have a label, if others have none. A batch then begins with
    labelled examples, drawn with replacement: `num_labelled(...)` of them, and as many labels. An epoch goes through
    the others, several times if they are few.
    """
    x, labels = as_tensor(examples.x), as_tensor(examples.labels)
    num_drawn, others = 0, np.arange(len(examples), dtype=np.int32)
    if labelled is not None:
        num_drawn, others = num_labelled(batch_size, len(labelled), len(examples)), np.delete(others, labelled)
    num_others = batch_size - num_drawn
    num_steps = steps_per_epoch(len(examples), batch_size, None if labelled is None else len(labelled))
    num_passes = math.ceil(num_steps * num_others / len(others))

    def epoch_batches(epoch: int, first: int = 0) -> tf.data.Dataset:
        seeds = [stream(seed, SHUFFLE_STREAM, epoch * num_passes + number) for number in range(num_passes)]
        order = tf.concat([tf.random.experimental.stateless_shuffle(tf.constant(others), one) for one in seeds], axis=0)
        rows = tf.reshape(order[: num_steps * num_others], (num_steps, num_others))

        def batch(step, rows):
            step_seed, known = stream(seed, TRAIN_STREAM, step), rows
            if labelled is not None:
                known = drawn_rows(labelled, num_drawn, step_seed)
                rows = tf.concat([known, rows], axis=0)
            images = tf.gather(x, rows)
            if flip:
                images = flip_half(images, step_seed)
            return prepare(images, tf.gather(labels, known), step_seed, binarize)

        steps = np.arange(epoch * num_steps, (epoch + 1) * num_steps)
        return without_tuning(tf.data.Dataset.from_tensor_slices((steps[first:], rows[first:])).map(batch).prefetch(8))

    return epoch_batches


def num_labelled(batch_size: int, num_labels: int, num_examples: int) -> int:
    """How many examples of a batch have a label: as many as among all examples, but at least a quarter; none where no
    example has one."""
    share = max(batch_size // LEAST_LABELLED, batch_size * num_labels // num_examples, 1)
    return min(share, batch_size - 1) if num_labels else 0


def steps_per_epoch(num_examples: int, batch_size: int, num_labels: int | None = None) -> int:
    """The number of batches that an epoch has. `num_labels` is that of the examples with a label, if others have none:
    an epoch then is at least one of the others."""
    num_steps = num_examples // batch_size
    if num_labels is None:
        return num_steps
    num_others = batch_size - num_labelled(batch_size, num_labels, num_examples)
    return max(num_steps, (num_examples - num_labels) // num_others)


def drawn_rows(rows: np.ndarray, num: int, seed: tf.Tensor) -> tf.Tensor:
    """`num` of the row numbers, drawn with replacement; none of none."""
    seed, num_rows = stream_of(seed, LABELLED_STREAM), max(len(rows), 1)
    drawn = tf.random.stateless_uniform((num,), seed, 0, num_rows, tf.int32, alg="philox")
    return tf.gather(tf.constant(rows, tf.int32), drawn)


def evaluation_batches(examples: Examples, *, seed: int, binarize: str, first: int = 0) -> tf.data.Dataset:
    """Batches (x, labels, batch seed) of every example once, in order, with the same noise at every pass.

    `first` is the number of the first batch, where many examples come in several parts.
    """
    x, labels = as_tensor(examples.x), as_tensor(examples.labels)

    def batch(number):
        rows = slice(number * TEST_BATCH_SIZE, (number + 1) * TEST_BATCH_SIZE)
        return prepare(x[rows], labels[rows], stream(seed, TEST_STREAM, first + number), binarize)

    num_batches = math.ceil(len(examples) / TEST_BATCH_SIZE)
    return without_tuning(tf.data.Dataset.range(num_batches).map(batch).prefetch(2))


def as_tensor(array: np.ndarray) -> tf.Tensor:
    """A tensor that shares the array's memory where that is possible, else a copy. It is never on the GPU."""
    if array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % ALIGNMENT == 0 and array.size:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    with tf.device("/CPU:0"):
        return tf.constant(array)


def without_tuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Turn tf.data's tuning and optimizations off. Tuning could delay the end of an epoch by seconds, and the
    optimizations copied all examples at its start (benchmarks/README.md)."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return batches.with_options(options)


def flip_half(images, seed):
    """Mirror each image left to right with probability 1/2: (batch, height, width, channels)."""
    noise = tf.random.stateless_uniform((len(images), 1, 1, 1), stream_of(seed, FLIP_STREAM), alg="philox")
    return tf.where(noise < 0.5, images[:, :, ::-1], images)


def prepare(x, labels, seed, binarize):
    """uint8 images -> float32 in [0, 1], grey or binary; points as they are; labels -> float32."""
    if x.dtype == tf.uint8:
        x = tf.cast(x, tf.float32) / 255.0
    if binarize == "dynamic":
        noise = tf.random.stateless_uniform(tf.shape(x), stream_of(seed, BINARIZE_STREAM), alg="philox")
        x = tf.cast(noise < x, tf.float32)
    elif binarize == "threshold":
        x = tf.cast(x > 0.5, tf.float32)
    return x, tf.cast(labels, tf.float32), seed


def stream(seed: int, purpose: int, index: tf.Tensor) -> tf.Tensor:
    """An int32 seed of shape (2,) for random draw number `index` of one purpose."""
    return stream_of(stream_of(tf.constant([seed, 0]), purpose), index)


def stream_of(seed: tf.Tensor, index) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(index, tf.int32))
