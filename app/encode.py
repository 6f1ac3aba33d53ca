"""--encode: the code of every example, in codes.npz and codes.png."""

import numpy as np

from app.on_data import make_destination, names_of_chosen, print_notes, walk
from app.run import Run
from pictures.album import Album
from pictures.latent_space import MOST_CODES, draw_codes
from sources.streams import Stream
from storage.files import replacing
from trained.conditions import Conditioner
from trained.model import TrainedModel


def encode(run: Run, trained: TrainedModel, stream: Stream) -> None:
    """Write the mean and logvar of q(z|x) of every example, and draw the means of at most 3,000."""
    folder, seed = make_destination(run, "encode", stream), run.settings.seed
    conditioner = Conditioner(trained, stream.class_names, seed)
    means, logvars, labels, names, assumed = [], [], [], [], []
    for first, block in walk(stream, "encoding"):
        given = conditioner.condition(block.x, block.labels, first)
        if trained.is_conditional:
            assumed += names_of_chosen(trained, given.chosen_classes)
        for x, conditions, _ in given.batches:
            mean, logvar = trained.model.encode(x, conditions)
            means.append(mean.numpy())
            logvars.append(logvar.numpy())
        labels.append(block.labels)
        names += block.names
    print_notes(stream, conditioner)
    arrays = {"mean": np.concatenate(means), "logvar": np.concatenate(logvars), "names": np.array(names)}
    if conditioner.num_chosen:
        arrays["most_probable_class"] = np.array(assumed)
    labels = np.concatenate(labels)
    if stream.class_names:
        arrays |= {"labels": class_numbers_or_rows(labels), "class_names": np.array(stream.class_names)}
    with replacing(folder / "codes.npz") as partial:
        np.savez(partial, **arrays)
    shown = np.random.default_rng(seed).permutation(len(labels))[:MOST_CODES]
    draw_codes(
        Album(folder, caption=f"{run.caption}, {stream.name}"),
        "codes.png",
        arrays["mean"][shown],
        labels[shown],
        stream.class_names,
        title=f"Posterior means of {f'{len(shown):,} of ' * (len(shown) < len(labels))}{stream.count(len(labels))}",
    )
    print(f"codes of {stream.count(len(labels))}: {folder}")


def class_numbers_or_rows(labels: np.ndarray) -> np.ndarray:
    """Class numbers (n,) where every example has one class, else the rows of zeros and ones, (n, classes)."""
    return labels.argmax(axis=1) if (labels.sum(axis=1) == 1).all() else labels
