"""--sample, and the end of training: write samples.png, samples.npz and, with two latents, manifold.png."""

from collections.abc import Sequence

from app.draw import album_of, samples_of
from app.run import Run
from data import Dataset
from pictures.manifold import draw_manifold
from pictures.samples import draw_samples, save_samples
from vae import VAE

MOST_NAMED = 20  # most class numbers in the name of a file


def sample(run: Run, model: VAE, dataset: Dataset | None, class_names: Sequence[str], dataset_name: str) -> None:
    """Draw samples. `dataset` is needed only for points, which are drawn beside the data.

    `--sample --labels 3 7` writes samples_3_7.png and samples_3_7.npz, so that samples.png keeps all classes.
    """
    settings, album = run.settings, album_of(run, dataset_name)
    samples = samples_of(run, model, class_names)
    labels = () if settings.train else settings.labels
    name = "_".join(["samples", *map(str, labels[:MOST_NAMED]), *(["more"] if len(labels) > MOST_NAMED else [])])
    draw_samples(album, samples, class_names, dataset, name=name)
    if settings.sample:
        save_samples(album.path(f"{name}.npz"), samples)
    if settings.latent_size == 2:
        draw_manifold(album, model, class_names, settings.seed, dataset)
