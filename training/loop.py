"""The training loop: figures after every epoch, a progress bar, and a save when it is stopped."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf

from parts.networks import default_keras_settings
from storage.errors import UserError
from training.devices import gather
from training.interrupts import deferred, stop
from training.optimizers import OPTIMIZERS
from training.progress import FIGURES, ProgressBar
from training.state import TrainingState
from training.steps import Steps
from vae import VAE


class TrainingError(UserError):
    """Training cannot go on; the message says where it stopped and what to try."""


@default_keras_settings()
def compile_model(model: VAE, learning_rate: float = 1e-3, **options: float) -> None:
    """Give the model its optimizer and build it. `train` needs this, and so does loading a checkpoint to continue.
    `options` are further arguments of the optimizer, see training/optimizers.py."""
    model.compile(OPTIMIZERS[model.optimizer_name](learning_rate, **options), jit_compile=False)
    model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def exchanged_weights(model: VAE) -> Iterator[None]:
    """Within this context the weights that the optimizer updates are exchanged with their averages. Outside of training
    the model has the averages: these are evaluated, saved and sampled."""
    model.optimizer.exchange_weights()
    try:
        yield
    finally:
        model.optimizer.exchange_weights()


def train(
    model: VAE,
    epoch_batches: Callable[[int, int], tf.data.Dataset],
    held_out_batches: tf.data.Dataset,
    *,
    batch_size: int,
    split: str,
    num_epochs: int,
    state: TrainingState,
    save: Callable[[], None],
    report: Callable[[dict[str, float], float], None],
    after_epoch: Callable[[int], None],
    save_every_steps: int = 0,
    held_out_figures: Sequence[str] = FIGURES,
) -> None:
    """Train from `state`, which is kept up to date, to the end of epoch num_epochs.

    After each epoch its row (epoch, then loss, elbo, rate, distortion of training data, and of held-out data the
    metrics of the model that `held_out_figures` names) is added to the history, then `save()`, `report(row, seconds)`
    and `after_epoch(epoch)` are called. `save()` is also called within an epoch, every `save_every_steps` steps and
    when a signal asks to stop. It finds the averaged weights in the model.

    Raises:
        TrainingError: if the loss or a weight is no longer finite. Such weights are never saved.
        Stopped: after Ctrl-C, SIGTERM or SIGHUP, when the current step has ended and its weights are saved.
        WorkersError: if one of several machines is lost.
    """
    with deferred() as received, ProgressBar(state.epoch, num_epochs) as progress:

        def signal_received() -> int:
            """The signal that any machine has received; 0 if none has."""
            return int(gather([received[0] if received else 0], model.distribute_strategy).max())

        training = Training(
            model,
            held_out_batches,
            state,
            progress,
            batch_size=batch_size,
            save=save,
            save_every_steps=save_every_steps,
            held_out_figures=held_out_figures,
            signal_received=signal_received,
        )
        for epoch in range(state.epoch, num_epochs):
            seconds_before = state.train_seconds
            row = {"epoch": epoch + 1}
            row |= prefixed("train", training.train(epoch_batches(epoch, state.step)))
            row |= prefixed(split, training.evaluate())
            if not all(map(math.isfinite, row.values())):
                raise diverged(model, state, f"after epoch {epoch + 1}")
            state.end_epoch(row)
            save()
            report(row, state.train_seconds - seconds_before)
            after_epoch(epoch + 1)
            if number := signal_received():
                stop(number)


class Training:
    """Runs the steps of an epoch. Between them it updates the state, saves when that is due, and stops at a signal or a
    loss that is not finite."""

    def __init__(
        self,
        model: VAE,
        held_out_batches: tf.data.Dataset,
        state: TrainingState,
        progress: ProgressBar,
        *,
        batch_size: int,
        save: Callable[[], None],
        save_every_steps: int,
        held_out_figures: Sequence[str],
        signal_received: Callable[[], int],
    ):
        self.model, self.held_out_batches, self.state, self.progress = model, held_out_batches, state, progress
        self.batch_size, self.save, self.save_every_steps = batch_size, save, save_every_steps
        self.held_out_figures, self.signal_received = held_out_figures, signal_received
        self.steps = Steps(model)
        self.started = time.perf_counter()  # when the current steps began

    def train(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Train on the remaining batches of the epoch; returns the means over the whole epoch."""
        self.started = time.perf_counter()
        first = self.state.step
        self.progress.start_epoch(self.state.epoch, first + len(batches), first)
        self.model.reset_metrics()
        restore_means(self.model, self.state.running)
        with exchanged_weights(self.model):
            for num_steps, figures in self.steps.train(batches, self.save_every_steps):
                self.after_block(first + num_steps, figures)
                self.progress.update(first + num_steps, figures)
        self.state.running = running_means(self.model)  # the evaluation resets them
        return {tracker.name: float(tracker.result()) for tracker in self.model.trackers}

    def after_block(self, step: int, figures: Mapping[str, tf.Tensor]) -> None:
        """Called when `step` steps of the epoch are done."""
        state, now = self.state, time.perf_counter()
        if not math.isfinite(figures["loss"]):
            num_replicas = self.model.distribute_strategy.num_replicas_in_sync
            failed = int(figures["finite_steps"]) // num_replicas + 1
            raise diverged(self.model, state, f"in step {failed} of epoch {state.epoch + 1}")
        before, state.step = state.step, step
        state.train_images += (step - before) * self.batch_size
        state.train_seconds += now - self.started
        is_due = self.save_every_steps and step // self.save_every_steps > before // self.save_every_steps
        number = self.signal_received()
        if is_due or number:
            self.save_within_epoch()
        if number:
            stop(number)
        self.started = time.perf_counter()

    def save_within_epoch(self) -> None:
        """Save the averaged weights, if their loss on a held-out batch is finite. The training loss may still be finite
        in the last step before it diverges."""
        self.state.running = running_means(self.model)
        with exchanged_weights(self.model):  # exchanged again: the model has the averages
            for figures in self.steps.test(self.held_out_batches.take(1)):
                if not math.isfinite(figures["loss"]):
                    where = f"after step {self.state.step} of epoch {self.state.epoch + 1}"
                    raise diverged(self.model, self.state, where)
            self.save()
        restore_means(self.model, self.state.running)

    def evaluate(self) -> dict[str, float]:
        """The means over the held-out data."""
        for figures in self.steps.test(self.held_out_batches):
            self.after_test_batch(figures)
        return {name: float(figures[name]) for name in self.held_out_figures}

    def after_test_batch(self, figures: Mapping[str, tf.Tensor]) -> None:
        if number := self.signal_received():
            if not math.isfinite(figures["loss"]):
                raise diverged(self.model, self.state, f"after epoch {self.state.epoch + 1}")
            self.save()
            stop(number)


def diverged(model: VAE, state: TrainingState, where: str) -> TrainingError:
    rate = float(model.optimizer.learning_rate.numpy())
    message = f"the loss is no longer finite {where}. Try a smaller --learning_rate, as {rate / 10:g} (it is {rate:g})"
    if state.epoch:
        message += "; the last checkpoint is untouched, and --load_weights goes on from it"
    return TrainingError(message)


def prefixed(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def running_means(model: VAE) -> dict[str, list[float]]:
    return {metric.name: [float(value.numpy()) for value in metric.variables] for metric in model.metrics}


def restore_means(model: VAE, running: Mapping[str, list[float]]) -> None:
    for metric in model.metrics:
        if metric.name in running:
            for variable, value in zip(metric.variables, running[metric.name], strict=True):
                variable.assign(value)
