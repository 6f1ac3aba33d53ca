"""What a run computes on: one device, several of one machine, or several machines (tf.distribute).

A batch is the same on any number of devices. Of n replicas, number r computes its rows r, r + n, r + 2n, ... with the
noise of these rows. So the losses are those of one device, up to rounding.
"""

import contextlib
import functools
import json
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from storage.errors import UserError
from training.interrupts import handled_by

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
        tf.errors.FailedPreconditionError, tf.errors.InternalError, tf.errors.UnknownError)  # fmt: skip


class DeviceError(UserError):
    """There is no such device here; the message says what there is."""


class WorkersError(UserError):
    """Several machines cannot train together, or one of them was lost; the message says why."""


def choose_device(wanted: str) -> str:
    """--device -> a name for tf.device. Without the check TensorFlow would silently use the CPU.

    Raises:
        DeviceError: if there is no such GPU.
    """
    gpus = len(tf.config.list_physical_devices("GPU"))
    if wanted == "cpu" or (wanted == "auto" and not gpus):
        return "/CPU:0"
    number = int(wanted.partition(":")[2] or 0)
    if number >= gpus:
        raise DeviceError(f"--device {wanted}: TensorFlow sees {gpus or 'no'} GPU here; use --device cpu")
    return f"/GPU:{number}"


def make_strategy(name: str, device: str, num_replicas: int | None) -> tf.distribute.Strategy:
    """--strategy, --device and --num_replicas -> a strategy; for "none" TensorFlow's default one, with one replica.

    Raises:
        DeviceError: if there are not so many GPUs.
        WorkersError: if this machine cannot take its place among the workers.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    gpus = tf.config.list_physical_devices("GPU")
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        gpus = []
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(replica_devices(len(gpus), num_replicas))
    print("waiting for the other workers of TF_CONFIG, until all are there or Ctrl-C", flush=True)
    # While TensorFlow waits here, Python's signal handlers are never called.
    message = "cannot join the workers of TF_CONFIG: is the port free, are the addresses right?"
    with lost_connections_raise(message), handled_by(signal.SIG_DFL):
        return tf.distribute.MultiWorkerMirroredStrategy()


def replica_devices(num_gpus: int, num_replicas: int | None) -> list[str]:
    """The names of the first GPUs; without a GPU, of shares of the CPU."""
    if num_gpus:
        if (num_replicas or 0) > num_gpus:
            raise DeviceError(f"--num_replicas {num_replicas}: TensorFlow sees {num_gpus} GPU here")
        return [f"GPU:{number}" for number in range(num_replicas or num_gpus)]
    if num_replicas is None:
        raise DeviceError("--strategy mirrored has no GPU here; --num_replicas N makes N replicas of the CPU")
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_replicas)
    return [f"CPU:{number}" for number in range(num_replicas)]


# Between steps


def distribute(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """Batches (x, labels, seed) -> a dataset that gives each replica its rows and the seed."""
    num = strategy.num_replicas_in_sync

    def of_machine(context: tf.distribute.InputContext) -> tf.data.Dataset:
        """The dataset of one machine, whose replicas take the elements in turn."""
        local = num // context.num_input_pipelines
        replicas = tf.data.Dataset.range(local).map(lambda number: number + context.input_pipeline_id * local)
        return batches.flat_map(
            lambda x, labels, seed: replicas.map(lambda replica: (x[replica::num], labels[replica::num], seed))
        )

    return batches if num == 1 else strategy.distribute_datasets_from_function(of_machine)


def gather(values: Sequence[int], strategy: tf.distribute.Strategy) -> np.ndarray:
    """The values of every worker, if there are several: (workers, values), int32."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return np.array([values], np.int32)
    return gatherer(strategy)(tf.constant([values], tf.int32)).numpy()


@functools.lru_cache(maxsize=1)
def gatherer(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.function(lambda row: strategy.gather(strategy.run(tf.identity, (row,)), axis=0))


def refuse_differences(values: Mapping[str, Any], strategy: tf.distribute.Strategy) -> None:
    """Raise a WorkersError on all workers if one of them has another value than the chief.

    Args:
        values: anything JSON can hold, by what the message calls it.
    """
    digests = [zlib.crc32(json.dumps(value).encode()) // 2 for value in values.values()]  # in 31 bits
    differs = np.any(np.diff(gather(digests, strategy), axis=0), axis=0)
    names = [name for name, is_different in zip(values, differs, strict=True) if is_different]
    if names:
        raise WorkersError(f"the workers do not all have the same {', '.join(names)}: they cannot train together")


@contextlib.contextmanager
def among_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """On several machines only the chief prints, and the loss of a worker is reported in one line."""
    with contextlib.ExitStack() as stack:
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            stack.enter_context(
                lost_connections_raise(
                    "another worker was lost. What was saved is whole: start all of them again, with --load_weights if "
                    "there is a checkpoint"
                )
            )
        if not is_chief(strategy):
            print("the chief prints and writes, this worker only computes", flush=True)
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def lost_connections_raise(message: str) -> Iterator[None]:
    """Turn TensorFlow's errors of lost connections into a WorkersError with this message."""
    try:
        yield
    except LOST as error:
        sys.unraisablehook = lambda _: None  # TensorFlow leaves thread pools open, which complain at the program's end
        raise WorkersError(f"{message} ({type(error).__name__})") from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that prints and writes."""
    return strategy.extended.should_checkpoint
