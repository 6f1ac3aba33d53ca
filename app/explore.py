"""--explore: explorer.html, in which a reader plays with the model, see `explorer.page`."""

import pathlib

import numpy as np

from app.rules import FlagError
from app.run import Run
from data import Dataset
from evaluation.measurement import Measurement
from explorer.export import export_model
from explorer.page import MOST_BYTES, Held, page
from sources.examples import Examples
from storage.files import replacing
from trained.model import TrainedModel

IMAGES, POINTS = 40, 500  # held-out examples to start from
CODES = 1000  # and those whose codes are shown


def explore(run: Run, trained: TrainedModel, dataset: Dataset) -> None:
    """Write explorer.html to the run's outputs, or to the file or folder of --to.

    Raises:
        FlagError: for a conditional model of several labels at a time.
    """
    settings, model = run.settings, trained.model
    if model.is_conditional and dataset.has_several_labels():
        raise FlagError("--explore needs one class for each example, and this model is given several labels at a time")
    path = pathlib.Path(settings.to or run.folders.outputs)
    path = path if path.suffix == ".html" else path / "explorer.html"
    measurement = Measurement(model, dataset, binarize=settings.binarize, seed=settings.seed, max_examples=CODES)
    num = POINTS if dataset.is_points else IMAGES
    terms, shown = measurement.terms, measurement.held_out[:num]
    images = np.concatenate([x for x, _, _ in measurement.batches])[:num]
    held = Held(
        x=images if dataset.is_points else np.round(255 * images).astype(np.uint8),
        labels=class_numbers(shown),
        means=terms["mean"],
        mean_labels=class_numbers(measurement.held_out),
        rates=terms["latent_rates"].mean(axis=0) if model.rates_are_per_latent else None,
        class_names=dataset.class_names,
    )
    for bits in (16, 8):
        text = page(
            export_model(model, trained.class_names, bits=bits),
            held,
            title=f"{settings.model} / {run.folders.name}",
            summary=f"{settings.model.upper()} of {dataset.name} with {trained.latent_size} latents, in this page.",
            is_binary=settings.binarize != "none",
            can_draw=dataset.kind() == "drawings" and float(dataset.mean().mean()) < 0.5,  # white on black
            std=float(np.exp(model.likelihood.log_std())) if model.likelihood.has_learned_scale else 1.0,
        )
        if len(text) <= MOST_BYTES:
            break
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    print(f"wrote {path}: {len(text) / 1e6:.1f} MB, with {bits} bits a weight; open it in a browser")


def class_numbers(examples: Examples) -> np.ndarray:
    """The number of each example's class, -1 where it has none or several: (n,)"""
    labels = np.asarray(examples.labels)
    return np.where(labels.sum(axis=1) == 1, labels.argmax(axis=1), -1) if labels.shape[1] else np.full(len(labels), -1)
