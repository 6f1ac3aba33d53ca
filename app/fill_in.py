"""--fill_in: images of which a part is missing, completed, in fill_in.png and fill_in.npz."""

import dataclasses

import numpy as np
import tqdm

from app.on_data import make_destination, print_notes, walk
from app.rules import NOTHING_MISSING, FlagError
from app.run import Run
from pictures.album import Album
from pictures.completions import MOST_IMAGES, draw_completions
from sources.streams import Block, Stream
from storage.files import replacing
from trained.conditions import Conditioner
from trained.model import TrainedModel


def fill_in(run: Run, trained: TrainedModel, stream: Stream) -> None:
    """Write completions of every image: draws from p(x_missing | x_known). A conditional model draws the class too;
    only one of several labels at a time gets those of the data.

    Raises:
        FlagError: if nothing is missing.
    """
    settings = run.settings
    examples, num_whole = incomplete_examples(stream, settings.hide, settings.max_examples, settings.seed)
    folder, name = make_destination(run, "fill_in", stream), "_".join(filter(None, ["fill_in", settings.hide]))
    labels = None
    if trained.is_conditional and trained.class_probs is None:
        labels = Conditioner(trained, stream.class_names, settings.seed).own_labels(examples.labels)
    num = settings.num_samples
    with tqdm.tqdm(total=len(examples.x) * num, desc="completing", unit="draw", disable=None) as bar:
        completions = trained.fill_in(
            examples.x, examples.known, labels, num=num, seed=settings.seed, progress=bar.update
        )
    print_notes(stream)
    if num_whole and not settings.hide:
        print(f"NOTE: {stream.count(num_whole)} without a transparent pixel left out")
    with replacing(folder / f"{name}.npz") as partial:
        np.savez(partial, images=examples.x, known=examples.known, completions=completions, names=examples.names)
    draw_completions(
        Album(folder, caption=f"{run.caption}, {stream.name}"),
        f"{name}.png",
        examples.x if settings.hide else None,
        examples.known,
        completions,
        examples.names[:MOST_IMAGES],
    )
    print(f"{num:,} completion{'s' * (num > 1)} of {stream.count(len(examples.x))}: {folder}")


def incomplete_examples(stream: Stream, hide: str | None, most: int, seed: int) -> tuple[Block, int]:
    """The first `most` images of which a part is missing, in one block, and the number of the others before them.

    Raises:
        FlagError: if there are none.
    """
    found, num_found, num_whole = [], 0, 0
    for first, block in walk(stream, "reading"):
        known = block.known
        if hide:
            known = known & shown_places(hide, known.shape, [seed, first])
        rows = np.flatnonzero(~known.all(axis=(1, 2)))[: most - num_found]
        num_found += len(rows)
        num_whole += len(known) - len(rows)
        names = [block.names[row] for row in rows]
        found.append(Block(block.x[rows], block.labels[rows], names, known[rows]))
        if num_found == most:
            break
    if not num_found:
        if hide:
            raise FlagError(f"--hide {hide} hides no pixel of images of {stream.data_shape[0]}x{stream.data_shape[1]}")
        raise FlagError(NOTHING_MISSING.format(data=stream.name))
    fields = [field.name for field in dataclasses.fields(Block)]
    return Block(**{name: np.concatenate([getattr(block, name) for block in found]) for name in fields}), num_whole


def shown_places(hide: str, shape: tuple[int, int, int], seed: int | list[int]) -> np.ndarray:
    """The places that a value of --hide leaves of images: bool (n, height, width), of this shape."""
    _, height, width = shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    hidden = {
        "left": columns < width // 2,
        "right": columns >= width - width // 2,
        "top": rows < height // 2,
        "bottom": rows >= height - height // 2,
        "centre": (abs(2 * rows - height + 1) < height / 2) & (abs(2 * columns - width + 1) < width / 2),
    }
    if hide in hidden:
        return np.broadcast_to(~hidden[hide], shape)
    return np.random.default_rng(seed).uniform(size=shape) >= float(hide)
