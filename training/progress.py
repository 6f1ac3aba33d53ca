"""The progress bar of a training."""

import sys
from collections.abc import Mapping

import tqdm

FIGURES = ("loss", "elbo", "rate", "distortion")


class ProgressBar:
    """One bar for the whole run, with the running figures and the time left; hidden if stderr is no terminal."""

    def __init__(self, first: int, num_epochs: int):
        """`first` counts the epochs done before."""
        self.first, self.num_epochs = first, num_epochs
        self.done = 0  # steps before this epoch
        self.bar = tqdm.tqdm(disable=not sys.stderr.isatty(), unit="step", dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def start_epoch(self, epoch: int, num_steps: int, step: int = 0) -> None:
        """Start an epoch, counted from 0, of which `step` steps are done already."""
        self.done = (epoch - self.first) * num_steps
        self.bar.total = (self.num_epochs - self.first) * num_steps
        self.bar.set_description(f"epoch {epoch + 1}/{self.num_epochs}", refresh=False)
        if step:
            self.bar.n = self.bar.initial = self.done + step

    def update(self, step: int, figures: Mapping[str, float]) -> None:
        """Show that `step` steps of the epoch are done."""
        self.bar.set_postfix({name: f"{float(figures[name]):.2f}" for name in FIGURES}, refresh=False)
        self.bar.update(self.done + step - self.bar.n)
