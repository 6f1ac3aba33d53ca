"""The training loop: figures after every epoch, a progress bar."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
import tqdm

from networks import NETWORKS
from optimizers import AveragedAdam, AveragedMuon
from vae import VAE

FIGURES = ("loss", "elbo", "rate", "distortion")
STEPS_PER_EXECUTION = 16  # training steps between two returns to Python
OPTIMIZERS = {"vae": AveragedAdam, "cvae": AveragedAdam, "vlae": AveragedMuon}


class TrainingError(Exception):
    """Training cannot go on; the message says where it stopped and what to try."""


@contextlib.contextmanager
def training_weights(model: VAE):
    """Within this context the model has the weights that the optimizer steps on; outside, their averages, which are
    what is evaluated, saved and sampled."""
    model.optimizer.exchange_weights()
    try:
        yield
    finally:
        model.optimizer.exchange_weights()


def compile_model(model: VAE, learning_rate: float = 1e-3) -> None:
    """Make the model ready for `train` and `evaluate`, with a built optimizer, as loading a checkpoint needs it."""
    jit_compile = NETWORKS[model.arguments["network"]]["jit_compile"]
    optimizer = OPTIMIZERS[model.arguments["model"]](learning_rate)
    model.compile(optimizer, jit_compile=jit_compile, steps_per_execution=STEPS_PER_EXECUTION)
    model.make_train_function()
    model.jit_compile = False  # a pass over held-out data is too short to pay for its compilation
    model.optimizer.build(model.trainable_variables)


def train(
    model: VAE,
    epoch_batches: Callable[[int], tf.data.Dataset],
    held_out_batches: tf.data.Dataset,
    *,
    split: str,
    num_epochs: int,
    history: list[dict[str, float]],
    after_epoch: Callable[[int, float], None],
) -> None:
    """Train from epoch len(history) + 1 to num_epochs.

    After each epoch its row (epoch, then loss, elbo, rate, distortion of training and held-out data) is added to
    `history`, and `after_epoch(epoch, seconds)` is called; seconds is what training took, without the evaluation.

    Raises:
        TrainingError: if the loss is no longer finite; `after_epoch` is then not called.
    """
    first = len(history)
    with ProgressBar(first, num_epochs) as progress:
        for epoch in range(first, num_epochs):
            started = time.perf_counter()
            batches = epoch_batches(epoch)
            with training_weights(model):
                fit = model.fit(batches, verbose=0, shuffle=False, callbacks=[progress.follow(epoch, len(batches))])
            seconds = time.perf_counter() - started
            held_out = model.evaluate(held_out_batches, verbose=0, return_dict=True)
            row = {"epoch": epoch + 1}
            row |= {f"train_{name}": float(fit.history[name][-1]) for name in FIGURES}
            row |= {f"{split}_{name}": float(held_out[name]) for name in FIGURES}
            if not all(map(math.isfinite, row.values())):
                raise TrainingError(
                    f"the loss is no longer finite in epoch {epoch + 1}; checkpoints of earlier epochs are untouched. "
                    f"Try a smaller --learning_rate than {float(model.optimizer.learning_rate):g}"
                )
            history.append(row)
            progress.report(describe(row, num_epochs, split, seconds))
            after_epoch(epoch + 1, seconds)


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

    def follow(self, epoch: int, num_steps: int) -> keras.callbacks.Callback:
        """A callback that moves the bar through one epoch."""
        self.bar.total = (self.num_epochs - self.first) * num_steps
        self.bar.set_description(f"epoch {epoch + 1}/{self.num_epochs}", refresh=False)
        done = (epoch - self.first) * num_steps

        def move(batch, logs):
            self.bar.set_postfix({name: f"{float(logs[name]):.2f}" for name in FIGURES}, refresh=False)
            self.bar.update(done + batch + 1 - self.bar.n)

        return keras.callbacks.LambdaCallback(on_train_batch_end=move)

    def report(self, line: str) -> None:
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()
