"""Which pictures a run makes."""

from collections.abc import Mapping, Sequence

import numpy as np

from app.run import Run
from data import Dataset
from pictures.album import Album
from pictures.interpolation import draw_interpolation
from pictures.latent_space import draw_latent_space
from pictures.reconstructions import draw_reconstructions
from pictures.samples import Samples, draw_samples, make_samples
from pictures.style_transfer import draw_style_transfer
from pictures.traversals import draw_traversals
from vae import VAE

MOST_CLASSES_DRAWN = 50  # rows of samples.png where --labels names none


def album_of(run: Run, dataset_name: str) -> Album:
    return Album(run.folders.outputs, caption=f"{run.caption}, dataset {dataset_name}")


def samples_of(run: Run, model: VAE, class_names: Sequence[str]) -> Samples:
    """What --num_samples and --labels ask for."""
    classes = None
    if model.is_conditional:
        classes = run.settings.labels or range(min(len(class_names), MOST_CLASSES_DRAWN))
    return make_samples(model, num=run.settings.num_samples, classes=classes, seed=run.settings.seed)


def draw_epoch(run: Run, model: VAE, dataset: Dataset, prefix: str) -> None:
    """Draw the pictures that show the progress of training."""
    album = album_of(run, dataset.name).with_prefix(prefix)
    class_names = dataset.names_in_model
    draw_samples(album, samples_of(run, model, class_names), class_names, dataset)
    draw_reconstructions(album, model, dataset, run.settings.binarize, run.settings.seed)


def draw_held_out(run: Run, album: Album, model: VAE, dataset: Dataset, terms: Mapping[str, np.ndarray]) -> None:
    """Draw the pictures of held-out data; `terms` are those of `elbo_terms` in evaluation/elbo.py."""
    binarize, seed = run.settings.binarize, run.settings.seed
    draw_reconstructions(album, model, dataset, binarize, seed)
    draw_interpolation(album, model, dataset, binarize, seed)
    draw_latent_space(album, model, dataset, binarize, seed)
    if not dataset.is_points:
        draw_traversals(album, model, dataset, terms, binarize, seed)
        if model.is_conditional and not dataset.has_several_labels():
            draw_style_transfer(album, model, dataset, binarize, seed)
