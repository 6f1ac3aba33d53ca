"""reconstructions.png: held-out originals and what the model makes of their codes."""

import numpy as np

import visualize
from data import Dataset, class_numbers
from pictures.album import Album
from pictures.batches import to_batch
from vae import VAE

NUM_IMAGES, NUM_POINTS = 10, 300


def draw_reconstructions(album: Album, model: VAE, dataset: Dataset, binarize: str, seed: int) -> None:
    """Originals above, their reconstructions below; points linked with theirs.

    Where p(x|z) has no mean, two draws from it show what the code keeps of an image and what it leaves to be redrawn.
    """
    examples = dataset.test.random_choice(NUM_POINTS if dataset.is_points else NUM_IMAGES, seed)
    x, labels = to_batch(examples, binarize, seed)
    path, title = album.path("reconstructions.png"), f"Reconstructions of {dataset.split} examples"
    if dataset.is_points:
        numbers, names = class_numbers(examples.labels, dataset.class_names)
        reconstructions = model.reconstruct(x, labels).numpy()
        visualize.save_links(path, x.numpy(), reconstructions, numbers, names, title=title, caption=album.caption)
        return
    images, row_labels = [x, model.reconstruct(x, labels, seed)], ["original", "model"]
    if not model.likelihood.has_mean:
        title = (
            f"{dataset.split.capitalize()} examples decompressed: x ~ {model.p_x_notation} at the posterior mean of "
            "z, drawn twice"
        )
        row_labels = ["original", "decompressed", "again"]
        images.append(model.reconstruct(x, labels, seed + 1))
    visualize.save_image_grid(path, np.stack(images), title=title, row_labels=row_labels, caption=album.caption)
