"""A model's train_step and test_step, compiled: blocks of steps on one device, single steps over several replicas."""

import math
from collections.abc import Callable, Iterator

import tensorflow as tf

from parts.networks import NETWORKS
from training.devices import distribute
from vae import VAE

BLOCK_BYTES = 2**25  # of batches that are trained on without a return to Python


class Steps:
    """The steps of a compiled model as TensorFlow functions, each traced once for a whole training."""

    def __init__(self, model: VAE):
        self.model = model
        self.strategy = model.distribute_strategy
        has_replicas = self.strategy.num_replicas_in_sync > 1  # XLA and a loop over steps do not work with these
        self.train_next = step_function(model, model.train_step) if has_replicas else block_function(model)
        self.test_next = step_function(model, model.test_step)

    def train(self, batches: tf.data.Dataset, save_every_steps: int = 0) -> Iterator[tuple[int, dict[str, tf.Tensor]]]:
        """Train on each batch once. After every block of steps this gives how many are done, and the running means; a
        block ends with every `save_every_steps`-th step."""
        num_steps, size = len(batches), 1
        distributed = distribute(batches, self.strategy)
        if distributed is batches:
            size = math.gcd(block_size(self.model, batches.element_spec[0].shape), save_every_steps)
            distributed = batches.batch(size).prefetch(1)
        iterator = iter(distributed)
        for first in range(0, num_steps, size):
            figures = self.train_next(iterator)
            yield min(first + size, num_steps), figures

    def test(self, batches: tf.data.Dataset) -> Iterator[dict[str, tf.Tensor]]:
        """The model's means over held-out batches, by name: those of the first one, of the first two, ..."""
        self.model.reset_metrics()
        iterator = iter(distribute(batches, self.strategy))
        for _ in range(len(batches)):
            yield self.test_next(iterator)


def step_function(model: VAE, step: Callable) -> Callable[[Iterator], dict[str, tf.Tensor]]:
    """A function that does one step, on all replicas, with the next batch of an iterator."""

    @tf.function(reduce_retracing=True, autograph=False)  # which would convert all that a step calls, for seconds
    def next_step(iterator):
        model.distribute_strategy.run(step, args=(next(iterator),))
        return running_figures(model)

    return next_step


def block_function(model: VAE) -> Callable[[Iterator], dict[str, tf.Tensor]]:
    """A function that does all training steps of a block, the next one of an iterator over blocks of batches.

    A block is padded to the largest size, so that XLA compiles once. NETWORKS says what it compiles. But nothing of a
    VLAE of images, whose pixel layers are slower under XLA.
    """
    arguments = model.arguments
    networks = [NETWORKS[name] for name in (arguments["network"], arguments["classifier"]) if name]
    compiled = networks[0]["compiled"]
    if model.takes_window and len(arguments["data_shape"]) == 3:
        compiled = "nothing"
    elif compiled == "loop" and networks[-1]["compiled"] != "loop":
        compiled = "step"  # in a loop XLA takes the gradients of convolutions 20 times slower
    train_step = tf.function(model.train_step, jit_compile=compiled == "step", autograph=False)

    @tf.function(jit_compile=compiled == "loop", autograph=False)
    def train_steps(block, num_steps):
        def step(number):
            train_step([part[number] for part in block])
            return [number + 1]

        # Over tf.range(num_steps) XLA would compile anew for another number of steps.
        tf.while_loop(lambda number: number < num_steps, step, [0])
        return running_figures(model)

    @tf.function(reduce_retracing=True, autograph=False)
    def next_block(iterator):
        block = next(iterator)
        num_steps, largest = tf.shape(block[0])[0], block_size(model, iterator.element_spec[0].shape[1:])
        missing = tf.zeros(largest - num_steps, tf.int32)
        block = [tf.concat([part, tf.gather(part, missing)], axis=0) for part in block]
        return train_steps([tf.ensure_shape(part, (largest, *part.shape[1:])) for part in block], num_steps)

    return next_block


def block_size(model: VAE, batch_shape: tf.TensorShape) -> int:
    """Steps between two returns to Python: a power of two, fewer for batches of many megabytes."""
    fitting = BLOCK_BYTES // (4 * batch_shape.num_elements())
    return min(NETWORKS[model.arguments["network"]]["steps_per_execution"], 2 ** int(math.log2(max(1, fitting))))


def running_figures(model: VAE) -> dict[str, tf.Tensor]:
    """The running means, over all replicas."""
    return {metric.name: metric.result() for metric in model.metrics}
