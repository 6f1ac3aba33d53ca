"""--score: the bounds on log p(x) of every example, in scores.csv and scores.png."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from app import report
from app.on_data import make_destination, names_of_chosen, print_notes, walk
from app.plan import find_inliers
from app.records import write_table
from app.run import Run
from evaluation.measurement import mean_and_error
from evaluation.scores import HIGH_IS_ODD, LIKELIHOODS, Scorer, separations
from pictures.album import Album
from pictures.scores import Extremes, draw_extremes
from sources.streams import Stream
from trained.conditions import Conditioner
from trained.model import TrainedModel

CHOSEN = "most_probable_class"


def score(run: Run, trained: TrainedModel, stream: Stream) -> None:
    """Write the scores of every example, print their means, and draw the least and the most likely examples."""
    settings, folder = run.settings, make_destination(run, "score", stream)
    num_samples, seed = settings.num_importance_samples, settings.seed
    conditioner = Conditioner(trained, stream.class_names, seed)
    scorer = Scorer(trained, conditioner, num_samples=num_samples, seed=seed)
    parts, labels, names, extremes = [], [], [], Extremes()
    for first, block in walk(stream, "scoring"):
        parts.append(scorer.score(block.x, block.labels, first))
        likelihood = next(name for name in LIKELIHOODS if name in parts[-1])
        extremes.add(block, parts[-1][likelihood])
        labels.append(block.labels)
        names += block.names
    print_notes(stream, conditioner)
    scores, labels = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, np.concatenate(labels)
    chosen = scores.pop(CHOSEN, None)
    write_scores(folder / "scores.csv", scores, names, classes_of(stream, labels) | chosen_classes(trained, chosen))
    print_means(stream, trained, scores, num_samples=num_samples, seed=seed)
    if settings.inliers:
        inside = labels[:, find_inliers(settings.inliers, stream)].any(axis=1)
        odd = {name: "high" if name in HIGH_IS_ODD else "low" for name in scores}
        report.print_separations(separations(scores, inside), odd, inliers=settings.inliers, data=stream.name)
    words = {"log_p_x": "log p(x)", "log_p_x_given_y": "log p(x|y)", "elbo": f"ELBO ({trained.model.bound_on})"}
    samples = f" by {num_samples:,} importance samples" if num_samples else ""
    title = f"{words[likelihood]} of {stream.count(len(names))}{samples}, in nats"
    draw_extremes(Album(folder, caption=f"{run.caption}, {stream.name}"), extremes, title=title, seed=seed)
    print(f"scores of {stream.count(len(names))}: {folder}")


def classes_of(stream: Stream, labels: np.ndarray) -> dict[str, list[str]]:
    """The column "class" of the table, where the data have classes; several of one example are joined by +."""
    if not stream.class_names:
        return {}
    return {"class": ["+".join(stream.class_names[number] for number in np.flatnonzero(row)) for row in labels]}


def chosen_classes(trained: TrainedModel, chosen: np.ndarray | None) -> dict[str, list[str]]:
    """The column of the classes that the model chose itself, if it did; others are left empty."""
    if chosen is None or chosen.max() < 0:
        return {}
    return {CHOSEN: names_of_chosen(trained, chosen)}


def write_scores(
    path: pathlib.Path, scores: Mapping[str, np.ndarray], names: Sequence[str], classes: Mapping[str, Sequence[str]]
) -> None:
    """A row for each example: its name, its class if there are classes, its scores. A score that it lacks is empty."""
    columns = {"name": names, **classes}
    columns |= {
        name: ["" if np.isnan(value) else str(value) for value in values.astype(np.float32)]
        for name, values in scores.items()
    }
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    write_table(path, list(columns), rows)


def print_means(
    stream: Stream, trained: TrainedModel, scores: Mapping[str, np.ndarray], *, num_samples: int, seed: int
) -> None:
    """The means of the scores as --evaluate prints them."""
    figures = {"num_examples": len(scores["elbo"]), "seed": seed, "num_importance_samples": num_samples}
    for name, values in scores.items():
        figures |= mean_and_error(name, values[~np.isnan(values)])
    binarize = None if stream.is_points else trained.binarize
    report.print_bounds(figures, split=stream.name, binarize=binarize, bound_on=trained.model.bound_on)
    if num_samples:
        report.print_log_likelihoods(figures)
