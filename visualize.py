"""Arrays -> picture files. Knows nothing of models or datasets.

Every function draws with the Agg canvas and matplotlib's default settings, whatever the user's are, and leaves those
as they were. `caption` is written above the picture.
"""

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from storage.files import replacing


@contextlib.contextmanager
def tolerating_backend() -> Iterator[None]:
    """Within this context MPLBACKEND is ignored. matplotlib cannot be imported if it names a backend that is not
    installed, such as the one that Jupyter exports to `!python`."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


with tolerating_backend():
    import matplotlib
    from matplotlib import colormaps, patheffects
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

DPI = 100
PAD = 0.08  # inches around what is drawn
GAP = 2  # pixels between the images of a grid
MOST_IN_LEGEND = 30
MOST_NUMBERED = 20  # classes of a confusion matrix whose numbers can be read
CELL, LABEL_HEIGHT, HEADING_HEIGHT = 1.0, 0.36, 0.3  # inches: the width of a labelled image, what stands around it
LABELLED_COLUMNS, LONGEST_NAME = 10, 22  # letters
HIGHEST = 4  # widths that a labelled image may take in height
MARKERS = "o^sDvPX<>*"  # of classes, for print without colours
PICTURE_WIDTH = 1000  # pixels; grids are enlarged by whole factors to about this
MOST_MOVES = 300  # rounds in which names are moved apart
LONG_RUN = 10  # epochs; of such a run the axes show the second half


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Within this context matplotlib's settings are its defaults; a letter without a glyph is drawn as a box."""
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    with matplotlib.rc_context(defaults), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


@own_settings()
def save_image_grid(
    path: str | os.PathLike,
    images: np.ndarray,
    *,
    title: str,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    caption: str = "",
) -> None:
    """Images (rows, columns, height, width, channels) in [0, 1] as one grid; NaN images are left blank.

    `row_labels` are written at the left, where an empty one continues the block above it, `column_labels` below.
    """
    _, columns, height, width, channels = images.shape
    mosaic = make_mosaic(images)
    zoom = max(1, min(4, PICTURE_WIDTH // mosaic.shape[1]))
    size = (zoom * mosaic.shape[1] / DPI, zoom * mosaic.shape[0] / DPI)
    figure = Figure(figsize=size, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(mosaic.squeeze(-1) if channels == 1 else mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(plain(title), fontsize=11, wrap=False)
    axes.set_frame_on(False)
    axes.set_xticks([])
    axes.set_yticks([])
    if row_labels:
        labelled = [(row, label) for row, label in enumerate(row_labels) if label]
        centres = [row * (height + GAP) + height / 2 for row, _ in labelled]
        axes.set_yticks(centres, [plain(label) for _, label in labelled], fontsize=11)
    if column_labels:
        centres = [column * (width + GAP) + width / 2 for column in range(columns)]
        turned = max(map(len, column_labels)) * 8 > zoom * width
        axes.set_xticks(
            centres, map(plain, column_labels), fontsize=11, rotation=60 * turned, ha="right" if turned else "center"
        )
    axes.tick_params(length=0)
    save(figure, path, caption)


@own_settings()
def save_labelled_images(
    path: str | os.PathLike,
    groups: Mapping[str, tuple[np.ndarray, Sequence[str], Sequence[str]]],
    *,
    title: str,
    caption: str = "",
) -> None:
    """Images, each with a label below it and in smaller letters a name, in groups one above the other.

    `groups`: heading -> images (n, height, width, channels) in [0, 1], their labels, their names.
    """
    height, width = next(iter(groups.values()))[0].shape[1:3]
    height = min(height, HIGHEST * width)
    columns = min(LABELLED_COLUMNS, max(len(images) for images, _, _ in groups.values()))
    rows = {heading: math.ceil(len(images) / columns) for heading, (images, _, _) in groups.items()}
    row_height = CELL * height / width + LABEL_HEIGHT
    size = (columns * CELL, sum(rows.values()) * row_height + len(groups) * HEADING_HEIGHT)
    figure = Figure(figsize=size, dpi=DPI)
    top = size[1]
    for heading, (images, labels, names) in groups.items():
        top -= HEADING_HEIGHT
        figure.text(0, (top + 0.05) / size[1], plain(heading), fontsize=11, va="bottom")
        for number, (image, label, name) in enumerate(zip(images, labels, names, strict=True)):
            row, column = divmod(number, columns)
            left, bottom = column * CELL, top - (row + 1) * row_height + LABEL_HEIGHT
            place = (
                left / size[0],
                bottom / size[1],
                0.94 * CELL / size[0],
                0.94 * (row_height - LABEL_HEIGHT) / size[1],
            )
            axes = figure.add_axes(place)
            axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            axes.text(0.5, -0.03, plain(label), fontsize=10, ha="center", va="top", transform=axes.transAxes)
            short = end_of(name, LONGEST_NAME)
            axes.text(
                0.5, -0.03 - 0.17 / (row_height - LABEL_HEIGHT), plain(short), fontsize=6, color="0.35", ha="center",
                va="top", transform=axes.transAxes,
            )  # fmt: skip
        top -= rows[heading] * row_height
    figure.text(0, 1, plain(title), fontsize=11, va="bottom")
    save(figure, path, caption)


def make_mosaic(images: np.ndarray) -> np.ndarray:
    """Images (rows, columns, height, width, channels) as one, with white gaps between them."""
    rows, columns, height, width, channels = images.shape
    mosaic = np.ones((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels))
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + GAP), column * (width + GAP)
            image = images[row, column]
            mosaic[top : top + height, left : left + width] = np.where(np.isnan(image), 1.0, np.clip(image, 0.0, 1.0))
    return mosaic


@own_settings()
def save_latent_space(
    path: str | os.PathLike,
    codes: np.ndarray,
    classes: np.ndarray | None,
    class_names: Sequence[str],
    *,
    title: str,
    axis_labels: tuple[str, str],
    caption: str = "",
) -> None:
    """A scatter plot of codes (n, 2). With classes, each is drawn as its class number; names stand at the medians."""
    figure = Figure(figsize=(7.5, 6.5), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    scatter(axes, codes, classes, class_names, numbered=True)
    add_legend(axes, markerscale=1)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(axis_labels[0])
    axes.set_ylabel(axis_labels[1])
    axes.set_title(plain(title), fontsize=11)
    present = [] if classes is None else np.unique(classes)[:MOST_IN_LEGEND]
    medians = {plain(class_names[i]): np.median(codes[classes == i], axis=0) for i in present}
    save(figure, path, caption, finish=lambda: name_classes(axes, medians))


def name_classes(axes: Axes, places: Mapping[str, np.ndarray]) -> None:
    """Write each name at its place. Names that would overlap are moved beside it, with a line to it."""
    outline = [patheffects.withStroke(linewidth=4, foreground="white")]
    style = {"fontsize": 14, "weight": "bold", "ha": "center", "va": "center", "path_effects": outline}
    texts = [axes.text(*place, name, **style) for name, place in places.items()]
    if not texts:
        return
    boxes = [text.get_window_extent() for text in texts]
    centres = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    sizes = np.array([[box.width + 10, box.height] for box in boxes])  # with a space between neighbours
    moved = move_apart(centres, sizes, axes.get_window_extent())
    for text, place, old, new in zip(texts, places.values(), centres, moved, strict=True):
        position = axes.transData.inverted().transform(new)
        text.set_position(position)
        if np.linalg.norm(new - old) > 10:  # pixels
            axes.plot(*zip(place, position, strict=True), color="black", linewidth=0.8, zorder=2.5)


def move_apart(centres: np.ndarray, sizes: np.ndarray, frame: Bbox) -> np.ndarray:
    """Centres (n, 2) of rectangles of these sizes, moved until none overlap; they stay within the frame if there is
    room."""
    centres = centres + np.arange(len(centres))[:, None] * 1e-3  # so that two at the same place move apart
    low, high = frame.min + sizes / 2, frame.max - sizes / 2
    for _ in range(MOST_MOVES):
        apart = centres[:, None] - centres[None, :]
        overlap = (sizes[:, None] + sizes[None, :]) / 2 - np.abs(apart)  # (n, n, 2)
        covers = np.all(overlap > 0, axis=-1) & ~np.eye(len(centres), dtype=bool)
        if not covers.any():
            break
        along = np.arange(2) == overlap.argmin(axis=-1)[..., None]  # the shorter way out
        centres = centres + np.sum(covers[..., None] * along * np.sign(apart) * (overlap + 1) / 2, axis=1)
        centres = np.where(low < high, np.clip(centres, low, np.maximum(low, high)), (low + high) / 2)
    return centres


@own_settings()
def save_points(
    path: str | os.PathLike,
    panels: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    class_names: Sequence[str],
    *,
    title: str,
    caption: str = "",
) -> None:
    """Scatter plots side by side, on the same axes: title -> points (n, 2) and their class numbers or None."""
    figure, all_axes = point_panels(len(panels))
    for axes, (name, (points, classes)) in zip(all_axes, panels.items(), strict=True):
        scatter(axes, points, classes, class_names)
        axes.set_title(plain(name), fontsize=11)
    add_legend(all_axes[-1], all_axes[0])
    figure.suptitle(plain(title), fontsize=12)
    save(figure, path, caption)


@own_settings()
def save_marked_points(
    path: str | os.PathLike, points: np.ndarray, marked: Mapping[str, np.ndarray], *, title: str, caption: str = ""
) -> None:
    """A pale scatter plot of points (n, 2), and in colour others that are marked: name -> points (m, 2)."""
    figure, (axes,) = point_panels(1)
    axes.scatter(*points.T, s=4, color="0.75", linewidths=0)
    for number, (name, some) in enumerate(marked.items()):
        axes.scatter(*some.T, s=30, color=f"C{number}", marker="v^"[number % 2], linewidths=0, label=plain(name))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set_title(plain(title), fontsize=11)
    save(figure, path, caption)


@own_settings()
def save_links(
    path: str | os.PathLike,
    points: np.ndarray,
    reconstructions: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str],
    *,
    title: str,
    caption: str = "",
) -> None:
    """Points (n, 2) by class, each linked with its reconstruction, a black dot."""
    figure, (axes,) = point_panels(1)
    scatter(axes, points, classes, class_names)
    axes.plot(*np.stack([points, reconstructions]).transpose(2, 0, 1), color="0.6", linewidth=0.7, zorder=0)
    axes.scatter(*reconstructions.T, s=5, color="black", linewidths=0, label="reconstruction")
    add_legend(axes)
    axes.set_title(title, fontsize=11)
    save(figure, path, caption)


@own_settings()
def save_curves(
    path: str | os.PathLike, panels: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]], *, caption: str = ""
) -> None:
    """Curves over a pale scatter plot: title -> points (n, 2) and the curves, (m, steps, 2), of each colour."""
    figure, all_axes = point_panels(len(panels))
    for axes, (name, (points, curves)) in zip(all_axes, panels.items(), strict=True):
        axes.scatter(*points.T, s=4, color="0.8", linewidths=0)
        for colour, bundle in curves.items():
            axes.plot(*bundle.transpose(2, 1, 0), color=colour, linewidth=0.8, marker=".", markersize=3)
        axes.set_title(plain(name), fontsize=9, wrap=True)
    save(figure, path, caption)


def point_panels(num: int) -> tuple[Figure, Sequence]:
    """A figure with axes for points, in rows of up to four, all with the same scales."""
    columns = min(num, 4)
    rows = math.ceil(num / columns)
    figure = Figure(figsize=(5 * columns + 1, 5 * rows), dpi=DPI, layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for axes in all_axes[num:]:
        axes.remove()
    for axes in all_axes[:num]:
        axes.set_aspect("equal")
    return figure, all_axes[:num]


def scatter(
    axes, points: np.ndarray, classes: np.ndarray | None, class_names: Sequence[str], *, numbered: bool = False
) -> None:
    """Points (n, 2), coloured and labelled by class number if there are classes. With `numbered` each is drawn as its
    class, which can be read without colours: by name, if all names are one letter or digit, else by number."""
    size = np.clip(6000 / len(points), 5, 20)
    if classes is None:
        axes.scatter(*points.T, s=size, alpha=0.5, linewidths=0, color="0.25")
        return
    present = np.unique(classes)
    are_short = all(len(class_names[number]) == 1 and class_names[number].isalnum() for number in present)
    palette = colormaps["tab10" if present.max() < 10 else "turbo"]
    for number in present:
        colour = palette(int(number) if present.max() < 10 else number / present.max())
        axes.scatter(
            *points[classes == number].T,
            s=40 if numbered else size,
            alpha=0.8 if numbered else 0.6,
            linewidths=0,
            color=colour,
            marker=f"${class_names[number] if are_short else number}$" if numbered else MARKERS[number % len(MARKERS)],
            label=plain(class_names[number]),
        )


def add_legend(axes, of=None, *, markerscale: float = 2) -> None:
    """A legend at the right of the axes, of what is in them or in `of`; none where it would be empty or too long."""
    handles, labels = (of or axes).get_legend_handles_labels()
    if not 0 < len(labels) <= MOST_IN_LEGEND:
        return
    legend = axes.legend(
        handles,
        labels,
        title="class",
        markerscale=markerscale,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
    )
    for handle in legend.legend_handles:
        handle.set_alpha(1)


@own_settings()
def save_history(
    path: str | os.PathLike, history: Sequence[Mapping[str, float]], *, title: str, caption: str = ""
) -> None:
    """Curves over epochs from rows with an `epoch` and columns called <split>_<figure>, in nats per example, except the
    error, a share that is drawn in percent. Rows may lack a column."""
    columns = list(dict.fromkeys(name for row in history for name in row if name != "epoch"))
    figures = list(dict.fromkeys(name.split("_", 1)[1] for name in columns))
    figure = Figure(figsize=(10, 3.2 * math.ceil(len(figures) / 2)), dpi=DPI, layout="constrained")
    panels = figure.subplots(math.ceil(len(figures) / 2), 2, squeeze=False).ravel()
    for axes in panels[len(figures) :]:
        axes.axis("off")
    for axes, name in zip(panels, figures, strict=False):
        scale, unit = (100, "% of examples") if name == "error" else (1, "nats per example")
        for column in (column for column in columns if column.split("_", 1)[1] == name):
            split = column.split("_", 1)[0]
            style = "C0--" if split == "train" else "C1-"
            rows = [row for row in history if column in row]
            epochs, values = [row["epoch"] for row in rows], [scale * row[column] for row in rows]
            axes.plot(epochs, values, style, marker=".", label=split)
        axes.set_title(name, fontsize=11)
        axes.set_xlabel("epoch")
        axes.set_ylabel(unit)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(title, fontsize=12)
    save(figure, path, caption)


@own_settings()
def save_histograms(
    path: str | os.PathLike, values: Mapping[str, np.ndarray], *, title: str, axis_label: str, caption: str = ""
) -> None:
    """Two or more sets of numbers as histograms on one axis; shade, hatching and a legend tell them apart."""
    figure = Figure(figsize=(7.5, 4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    ends = np.percentile(np.concatenate(list(values.values())), [0.5, 99.5])  # outliers would squeeze the rest
    styles = ({"color": "0.75"}, {"facecolor": "none", "edgecolor": "black", "hatch": "///"})
    for (name, numbers), style in zip(values.items(), styles, strict=True):
        inside = np.clip(numbers, *ends)
        weights = np.full(len(inside), 1 / len(inside))
        axes.hist(
            inside, bins=80, range=tuple(ends), weights=weights, histtype="stepfilled", label=plain(name), **style
        )
    axes.set_xlabel(axis_label)
    axes.set_ylabel("share of examples")
    axes.set_title(plain(title), fontsize=11)
    axes.legend(frameon=False)
    save(figure, path, caption)


@own_settings()
def save_confusion(
    path: str | os.PathLike, confusion: np.ndarray, class_names: Sequence[str], *, title: str, caption: str = ""
) -> None:
    """Numbers of examples (classes, classes), the right class in rows and the given one in columns."""
    num = len(class_names)
    side = min(4 + 0.4 * num, 12)
    figure = Figure(figsize=(side, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    if num <= MOST_NUMBERED:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
        names = [plain(name) for name in class_names]
        axes.set_xticks(range(num), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(num), names)
    axes.set_xlabel("class by q(y|x)")
    axes.set_ylabel("right class")
    axes.set_title(plain(title), fontsize=11)
    save(figure, path, caption)


@own_settings()
def save_calibration(
    path: str | os.PathLike, bins: Sequence[tuple[int, float, float]], *, title: str, caption: str = ""
) -> None:
    """Accuracy against confidence, with the number of examples of each bin: rows of (number, confidence, accuracy)."""
    figure = Figure(figsize=(5.5, 5.5), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    numbers, confidences, accuracies = (np.array(column) for column in zip(*bins, strict=True))
    axes.scatter(confidences, accuracies, s=20 + 300 * numbers / numbers.sum(), color="C0", alpha=0.6, linewidths=0)
    axes.plot(confidences, accuracies, color="C0", linewidth=1)
    for number, confidence, accuracy in bins:
        is_last = confidence > 0.9
        style = {"textcoords": "offset points", "fontsize": 8, "ha": "right" if is_last else "left"}
        axes.annotate(f"{number:,}", (confidence, accuracy), (-12 if is_last else 6, -10), **style)
    axes.set_xlim(0, 1.05)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("probability of the most probable class")
    axes.set_ylabel("share of examples for which it is right")
    axes.set_title(plain(title), fontsize=11)
    save(figure, path, caption)


@own_settings()
def save_comparison(
    path: str | os.PathLike,
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    columns: Sequence[str],
    table: Sequence[Sequence[str]],
    note: str,
    *,
    caption: str = "",
) -> None:
    """Runs side by side: in the rate-distortion plane and over epochs, from their `epoch`, `elbo`, `rate` and
    `distortion`, in nats per example; a table, and a note below it."""
    figure = Figure(figsize=(13, 5.5 + 0.3 * len(table)), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[5, 0.6 + 0.3 * len(table)])
    plane, over_epochs = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    for number, (name, run) in enumerate(curves.items()):
        style = {"color": f"C{number % 10}", "linestyle": ("-", "--", ":", "-.")[number % 4], "label": plain(name)}
        plane.plot(run["rate"], run["distortion"], linewidth=1, marker=".", markersize=3, **style)
        plane.plot(run["rate"][-1], run["distortion"][-1], MARKERS[number % len(MARKERS)], color=style["color"])
        plane.axline((run["rate"][-1], run["distortion"][-1]), slope=-1, color="0.8", linewidth=0.8, zorder=0)
        over_epochs.plot(run["epoch"], run["elbo"], marker=MARKERS[number % len(MARKERS)], markersize=4, **style)
    for set_limits, name in ((plane.set_xlim, "rate"), (plane.set_ylim, "distortion"), (over_epochs.set_ylim, "elbo")):
        set_limits(*frame([run[name] for run in curves.values()]))
    for axes in (plane, over_epochs):
        axes.grid(alpha=0.3)
    plane.set_xlabel("rate, nats per example")
    plane.set_ylabel("distortion, nats per example")
    plane.set_title("Rate and distortion after every epoch (grey: equal ELBO)", fontsize=11)
    over_epochs.set_xlabel("epoch")
    over_epochs.set_ylabel("ELBO, nats per example")
    over_epochs.set_title("ELBO after every epoch", fontsize=11)
    over_epochs.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    over_epochs.legend(frameon=False)
    below = figure.add_subplot(grid[1, :])
    below.set_axis_off()
    cells = below.table([[plain(text) for text in row] for row in table], colLabels=list(columns), loc="center")
    cells.auto_set_font_size(False)
    cells.set_fontsize(8)
    cells.auto_set_column_width(list(range(len(columns))))
    figure.supxlabel(plain(note), fontsize=10, wrap=True)
    save(figure, path, caption)


def frame(curves: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Limits that show all of short runs, and the second half of long ones, whose first epochs lie far off."""
    late = np.concatenate([values[len(values) // 2 if len(values) >= LONG_RUN else 0 :] for values in curves])
    margin = 0.15 * np.ptp(late) or 1.0
    return late.min() - margin, late.max() + margin


def end_of(name: str, longest: int) -> str:
    """The name, or its end after three dots, in at most so many letters."""
    return name if len(name) <= longest else f"...{name[3 - longest :]}"


def plain(text: str) -> str:
    """Escape a text for matplotlib, which reads $ as a formula and hides labels that begin with _."""
    escaped = text.encode(errors="backslashreplace").decode().replace("$", r"\$")
    return f" {escaped}" if text.startswith("_") else escaped


@own_settings()
def save(figure: Figure, path: str | os.PathLike, caption: str = "", finish: Callable[[], None] | None = None) -> None:
    """Write a figure, cut to what is drawn in it, with the caption above.

    `finish` is called between layout and drawing, for what depends on positions.
    """
    FigureCanvasAgg(figure)
    lay_out(figure)
    if finish:
        finish()
    box = figure.get_tightbbox()  # inches
    if caption:
        width, height = figure.get_size_inches()
        text = figure.text(
            box.x0 / width, (box.y1 + PAD) / height, plain(caption), fontsize=9, color="0.35", va="bottom"
        )
        box = Bbox.union([box, text.get_window_extent().transformed(figure.dpi_scale_trans.inverted())])
    with replacing(path) as partial:
        figure.savefig(partial, bbox_inches=box.padded(PAD))


def lay_out(figure: Figure) -> None:
    """Compute the layout, which is half of the work, once: savefig would do it twice more."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
