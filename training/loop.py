"""The training loop: figures after every epoch, a progress bar, and nothing lost where it stops."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
import tqdm

from parts.networks import NETWORKS
from storage.errors import UserError
from training.devices import gathered, shared
from training.interrupts import deferred, stop
from training.optimizers import OPTIMIZERS
from vae import VAE

FIGURES = ("loss", "elbo", "rate", "distortion")
BLOCK_BYTES = 2**25  # of batches that are trained on without a return to Python


class TrainingError(UserError):
    """Training cannot go on; the message says where it stopped and what to try."""


@contextlib.contextmanager
def exchanged_weights(model: VAE):
    """Within this context the weights that the optimizer steps on and their averages have changed places. Outside of
    training the model has the averages, which are what is evaluated, saved and sampled."""
    model.optimizer.exchange_weights()
    try:
        yield
    finally:
        model.optimizer.exchange_weights()


def compile_model(model: VAE, learning_rate: float = 1e-3) -> None:
    """Make the model ready for `train` and `evaluate`, with a built optimizer, as loading a checkpoint needs it."""
    model.compile(OPTIMIZERS[model.optimizer_name](learning_rate), jit_compile=False)
    if model.distribute_strategy.num_replicas_in_sync == 1:  # with replicas neither XLA nor a loop over steps works
        compiled = NETWORKS[model.arguments["network"]]["compiled"]
        if compiled == "loop" and model.arguments["window"]:
            compiled = "step"  # a window is a convolution; in a loop XLA takes the gradients of these 20 times slower
        model.train_function = block_function(model, compiled)
    model.optimizer.build(model.trainable_variables)


def block_function(model: VAE, compiled: str) -> Callable[[Iterator], dict[str, tf.Tensor]]:
    """A train function for Keras whose iterator gives blocks of batches, all of whose steps it does.

    A block is padded to the largest size, so that XLA, which compiles what `compiled` says, does so once.
    """
    train_step = tf.function(model.train_step, jit_compile=compiled == "step")

    @tf.function(jit_compile=compiled == "loop")
    def train_steps(block, num_steps):
        for number in tf.range(num_steps):
            train_step([part[number] for part in block])
        return {metric.name: metric.result() for metric in model.metrics}

    @tf.function
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


def fit(model: VAE, batches: tf.data.Dataset, *, save_every_steps: int = 0, **kwargs) -> None:
    """Train on these batches, once each; the averages of the weights take their place afterwards."""
    handed_out = shared(batches, model.distribute_strategy)
    if handed_out is batches:
        model.steps_per_execution = math.gcd(block_size(model, batches.element_spec[0].shape), save_every_steps)
        # Keras takes an element for a step, and would find too few: of a repeated dataset it does not ask the number.
        handed_out = batches.batch(model.steps_per_execution).prefetch(1).repeat()
    with exchanged_weights(model):
        model.fit(handed_out, steps_per_epoch=len(batches), verbose=0, shuffle=False, **kwargs)


def new_state() -> dict[str, Any]:
    """Where a training stands before its first step, in values that JSON keeps exactly.

    history: a row for each whole epoch, of which there are `epoch`; step: steps done of the epoch under way; running:
    the running means of those; train_seconds, train_images: of all steps, without evaluations.
    """
    return {"history": [], "epoch": 0, "step": 0, "running": {}, "train_seconds": 0.0, "train_images": 0}


def train(
    model: VAE,
    epoch_batches: Callable[[int, int], tf.data.Dataset],
    held_out_batches: tf.data.Dataset,
    *,
    batch_size: int,
    split: str,
    num_epochs: int,
    state: dict[str, Any],
    save: Callable[[], None],
    after_epoch: Callable[[int], None],
    save_every_steps: int = 0,
) -> None:
    """Train from where `state` stands, which is kept up to date, to the end of epoch num_epochs.

    After each epoch its row (epoch, then loss, elbo, rate, distortion of training and held-out data) is added to the
    history, then `save()` and `after_epoch(epoch)` are called. `save()` is also called within an epoch, every
    `save_every_steps` steps and when a signal asks to stop. It finds the averaged weights in the model.

    Raises:
        TrainingError: if the loss or a weight is no longer finite; that is never saved.
        Stopped: after Ctrl-C or SIGTERM, when the step under way has ended and has been saved.
        WorkersError: if one of several machines is lost.
    """
    strategy = model.distribute_strategy
    with deferred() as received, ProgressBar(state["epoch"], num_epochs) as progress:

        def asked_to_stop() -> int:
            """The signal that a machine has received, if one has; 0 if none."""
            return int(gathered([received[0] if received else 0], strategy).max())

        for epoch in range(state["epoch"], num_epochs):
            batches = epoch_batches(epoch, state["step"])
            num_steps, seconds_before = state["step"] + len(batches), state["train_seconds"]
            watch = Watch(state, save, held_out_batches, asked_to_stop, num_steps, batch_size, save_every_steps)
            if len(batches):
                follow = progress.follow(epoch, num_steps, state["step"])
                fit(model, batches, save_every_steps=save_every_steps, callbacks=[watch, follow])
            else:  # the run was stopped in the evaluation
                restore_means(model, state["running"])
            row = {"epoch": epoch + 1} | {
                f"train_{tracker.name}": float(tracker.result()) for tracker in model.trackers
            }
            state["running"] = running_means(model)  # the evaluation starts them anew
            held_out = evaluate(model, held_out_batches, callbacks=[watch])
            row |= {f"{split}_{name}": float(held_out[name]) for name in FIGURES}
            if not all(map(math.isfinite, row.values())):
                raise diverged(model, state, f"after epoch {epoch + 1}")
            state["history"].append(row)
            state |= {"epoch": epoch + 1, "step": 0, "running": {}}
            save()
            progress.report(describe(row, num_epochs, split, state["train_seconds"] - seconds_before))
            after_epoch(epoch + 1)
            if number := asked_to_stop():
                stop(number)


def evaluate(model: VAE, batches: tf.data.Dataset, **kwargs) -> dict[str, float]:
    """The model's means over held-out batches, by name."""
    handed_out = shared(batches, model.distribute_strategy)
    return model.evaluate(handed_out, steps=len(batches), verbose=0, return_dict=True, **kwargs)


class Watch(keras.callbacks.Callback):
    """Through one epoch: keeps `state` up to date, saves in time, stops for a signal or a loss that is not finite.

    The step before a loss that is not finite may look well, so what is saved must have a finite one on a held-out
    batch.
    """

    def __init__(self, state, save, held_out_batches, asked_to_stop, num_steps, batch_size, save_every_steps):
        super().__init__()
        self.state, self.save, self.probe, self.asked_to_stop = state, save, held_out_batches.take(1), asked_to_stop
        self.num_steps, self.batch_size, self.save_every_steps = num_steps, batch_size, save_every_steps
        self.first, self.started = state["step"], time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        restore_means(self.model, self.state["running"])

    def on_train_batch_end(self, batch, logs=None):
        state, now = self.state, time.perf_counter()
        if not math.isfinite(logs["loss"]):
            raise diverged(self.model, state, f"in step {int(logs['finite_steps']) + 1} of epoch {state['epoch'] + 1}")
        before, state["step"] = state["step"], min(self.first + batch + 1, self.num_steps)
        state["train_images"] += (state["step"] - before) * self.batch_size
        state["train_seconds"] += now - self.started
        is_due = self.save_every_steps and state["step"] // self.save_every_steps > before // self.save_every_steps
        number = self.asked_to_stop()
        if is_due or number:
            state["running"] = running_means(self.model)
            with exchanged_weights(self.model):  # a second time: the averages are back
                held_out = evaluate(self.model, self.probe)
                if not math.isfinite(held_out["loss"]):
                    raise diverged(self.model, state, f"after step {state['step']} of epoch {state['epoch'] + 1}")
                self.save()
            restore_means(self.model, state["running"])
        if number:
            stop(number)
        self.started = time.perf_counter()

    def on_test_batch_end(self, batch, logs=None):
        if number := self.asked_to_stop():
            if not math.isfinite(logs["loss"]):
                raise diverged(self.model, self.state, f"after epoch {self.state['epoch'] + 1}")
            self.save()
            stop(number)


def diverged(model: VAE, state: dict[str, Any], where: str) -> TrainingError:
    rate = float(model.optimizer.learning_rate.numpy())
    message = f"the loss is no longer finite {where}. Try a smaller --learning_rate, as {rate / 10:g} (it is {rate:g})"
    if state["epoch"]:
        message += "; the last checkpoint is untouched, and --load_weights goes on from it"
    return TrainingError(message)


def running_means(model: VAE) -> dict[str, list[float]]:
    return {metric.name: [float(value.numpy()) for value in metric.variables] for metric in model.metrics}


def restore_means(model: VAE, running: dict[str, list[float]]) -> None:
    for metric in model.metrics:
        if metric.name in running:
            for variable, value in zip(metric.variables, running[metric.name], strict=True):
                variable.assign(value)


def describe(row: dict[str, float], num_epochs: int, split: str, seconds: float) -> str:
    """One line for the screen; figures in nats per example."""

    def figures(prefix: str, names: Sequence[str]) -> str:
        return "  ".join(f"{name} {row[f'{prefix}_{name}']:.2f}" for name in names)

    epoch = f"epoch {row['epoch']:{len(str(num_epochs))}d}/{num_epochs}"
    return f"{epoch} | train {figures('train', FIGURES)} | {split} {figures(split, FIGURES[1:])} | {seconds:.1f} s"


class ProgressBar:
    """One bar for the whole run, with the running figures and the time left; none where no terminal would show it."""

    def __init__(self, first: int, num_epochs: int):
        self.first, self.num_epochs = first, num_epochs
        self.bar = tqdm.tqdm(disable=not sys.stderr.isatty(), unit="step", dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def follow(self, epoch: int, num_steps: int, skipped: int = 0) -> keras.callbacks.Callback:
        """A callback that moves the bar through one epoch, of which some steps may have been done before."""
        self.bar.total = (self.num_epochs - self.first) * num_steps
        self.bar.set_description(f"epoch {epoch + 1}/{self.num_epochs}", refresh=False)
        done = (epoch - self.first) * num_steps + skipped
        if skipped:
            self.bar.n = self.bar.initial = done

        def move(batch, logs):
            self.bar.set_postfix({name: f"{float(logs[name]):.2f}" for name in FIGURES}, refresh=False)
            self.bar.update(done + min(batch + 1, num_steps - skipped) - self.bar.n)

        return keras.callbacks.LambdaCallback(on_train_batch_end=move)

    def report(self, line: str) -> None:
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()
