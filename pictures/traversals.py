"""traversals.png: the effect of each latent alone."""

import numpy as np
import tensorflow as tf

import visualize
from data import Dataset
from pictures.album import Album
from pictures.batches import to_batch
from vae import VAE

MOST_LATENTS, STEPS = 10, 11  # rows and columns


def draw_traversals(
    album: Album, model: VAE, dataset: Dataset, terms: dict[str, np.ndarray], binarize: str, seed: int
) -> None:
    """Take one held-out example's code, and change each of the latents with the highest rates alone.

    `terms` are those of `elbo_terms` in evaluation/elbo.py.
    """
    rates, means = terms["latent_rates"].mean(axis=0), terms["mean"]
    latents = np.argsort(-rates)[:MOST_LATENTS]
    x, labels = to_batch(dataset.test.random_choice(1, seed), binarize, seed)
    code = model.encode(x, labels)[0].numpy()
    codes = np.tile(code, (len(latents), STEPS, 1))
    for row, latent in enumerate(latents):
        codes[row, :, latent] = np.linspace(*np.percentile(means[:, latent], [1, 99]), STEPS)
    labels = tf.repeat(labels, len(latents), axis=0)
    # Step by step: where p(x|z) has no mean, all of a row are drawn with the same noise.
    images = [model.decode(tf.constant(codes[:, step]), labels, seed) for step in range(STEPS)]
    # Under a flow the summand of one latent depends on the others too: only the sum is a rate.
    text = "rate {:.2f} nats" if model.rates_are_per_latent else f"{{:.2f}} of the rate's {rates.sum():.2f} nats"
    visualize.save_image_grid(
        album.path("traversals.png"),
        np.stack(images, axis=1),
        title=f"Traversals: one latent of a {dataset.split} example's code, 1st to 99th percentile of posterior means",
        row_labels=[f"z{latent + 1}: {text.format(rates[latent])}" for latent in latents],
        caption=album.caption,
    )
