"""--compare: runs side by side, their curves in one picture, their figures in one table. Needs no TensorFlow."""

import json
import math
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import visualize
from app.folders import CHECKPOINT
from app.page import write_comparison
from app.records import read_metrics, write_table
from app.rules import FlagError
from app.run import read_run, run_of_file
from app.settings import DEFAULTS, ROWS, names
from parts.catalogue import bound_on
from storage.checkpoints import CheckpointError, reading
from storage.files import make_folder

# Figures are comparable only if all of these are equal.
CONDITIONS = ("dataset", "split", "binarize", "likelihood", "bound on")
FIGURES = ("elbo", "rate", "distortion", "error, %", "log p(x)")
COLUMNS = ("run", *CONDITIONS, "latents", "lr", "seed", "epoch", "elbo", "rate", "distortion", "error, %", "n",
           "log p(x)", "±", "K", "n of log p(x)")  # fmt: skip


def compare(given: Mapping[str, Any]) -> None:
    """Write comparison.png and comparison.csv, and print the table."""
    checkpoint_dir, output_dir = (
        pathlib.Path(given.get(name, getattr(DEFAULTS, name))) for name in ("checkpoint_dir", "output_dir")
    )
    paths = [find_checkpoint(name, checkpoint_dir) for name in given["compare"]]
    rows, curves, headers = [], {}, []
    for label, path in zip(short_labels(paths), dict.fromkeys(paths), strict=True):
        header = read_run(path)
        if not header["history"]:
            raise CheckpointError(f"{path} has no whole epoch yet to compare")
        with reading(path):
            rows.append(describe(label, path, header, output_dir))
            curves[label] = held_out_curves(header["history"])
        headers.append(header)
    rows += averages_over_seeds(rows, headers)
    columns = [column for column in COLUMNS if any(row[column] is not None for row in rows)]
    table = [[shown(row[column]) for column in columns] for row in rows]
    folder = output_dir / given.get("run_name", "comparison")
    make_folder(folder)
    write_table(folder / "comparison.csv", COLUMNS, rows)
    differences = [
        f"{condition} is {' and '.join(found)}"
        for condition in CONDITIONS
        if len(found := sorted({str(row[condition]) for row in rows})) > 1
    ]
    note = f"Not comparable with one another: {'; '.join(differences)}" if differences else ""
    visualize.save_comparison(folder / "comparison.png", curves, columns, table, note)
    write_comparison(folder, columns, table, curves, differences)
    widths = [max(map(len, column)) for column in zip(columns, *table, strict=True)]
    for line in (columns, *table):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    for difference in differences:
        print(f"NOTE: these figures are not comparable with one another: {difference}")
    print(f"picture and table: {folder}")


def find_checkpoint(name: str, checkpoint_dir: pathlib.Path) -> pathlib.Path:
    """The checkpoint with this path, or the newest one of a run: a folder, MODEL/RUN, or RUN if one model has it."""
    path = pathlib.Path(name)
    if path.is_file():
        return path
    candidates = [path]
    if path.is_dir() or len(path.parts) <= 2:  # its folder of outputs, or MODEL/RUN
        candidates.append(checkpoint_dir.joinpath(*path.parts[-2:]))
    for folder in candidates:
        newest = folder / f"{pathlib.Path(os.path.abspath(folder)).parent.name}{CHECKPOINT}"
        if newest.is_file():
            return newest
    found = [newest for newest in sorted(checkpoint_dir.glob(f"*/*/*{CHECKPOINT}"))
             if newest.parent.name == name and newest.name == f"{newest.parent.parent.name}{CHECKPOINT}"]  # fmt: skip
    if len(found) > 1:
        raise FlagError(f"--compare: {name} may be {' or '.join(short_label(path) for path in found)}: name one")
    if found:
        return found[0]
    raise FlagError(f"--compare: {name} is neither a checkpoint nor a run, such as vae/mnist, in {checkpoint_dir}")


def short_labels(paths: Sequence[pathlib.Path]) -> list[str]:
    """A label for each different path: MODEL/RUN, with the file if several are of one run; the whole path if another
    folder has the same MODEL/RUN."""
    unique = list(dict.fromkeys(paths))
    labels = []
    for path in unique:
        is_alone = sum(other.parent.resolve() == path.parent.resolve() for other in unique) == 1
        label = short_label(path) if is_alone else short_label(path, with_file=True)
        is_taken = sum(short_label(other) == short_label(path) for other in unique if other.parent != path.parent)
        labels.append(str(path.parent if is_alone else path).removesuffix(CHECKPOINT) if is_taken else label)
    return labels


def short_label(path: pathlib.Path, *, with_file: bool = False) -> str:
    parts = pathlib.Path(os.path.abspath(path)).parts
    parts = parts[-3:] if with_file else parts[-3:-1]
    return "/".join(parts).removesuffix(CHECKPOINT)


def describe(label: str, path: pathlib.Path, header: Mapping[str, Any], output_dir: pathlib.Path) -> dict[str, Any]:
    """A row of the table. ELBO, rate, distortion and error are those of the last epoch, over all n held-out examples.
    log p(x) comes from metrics.json, if that is of the same weights, with its own number of examples."""
    config, model = header["config"], header["model"]
    split, curves = held_out_split(header["history"]), held_out_curves(header["history"])
    row = dict.fromkeys(COLUMNS) | {
        "run": label,
        "dataset": header["dataset"]["name"],
        "split": split,
        "binarize": config["binarize"],
        "likelihood": config["likelihood"],
        "bound on": bound_on(model),
        "latents": config["latent_size"],
        "lr": config["learning_rate"],
        "seed": config["seed"],
        "epoch": header["epoch"],
        **{name: curves[name][-1] for name in ("elbo", "rate", "distortion")},
        "error, %": curves["error"][-1] if "error" in curves else None,
        "n": header["dataset"].get("held_out", "all"),  # older checkpoints do not store it
    }
    metrics = read_metrics(output_dir / config["model"] / run_of_file(path, config["model"]))
    figures = metrics.get(split)
    if is_of(header, metrics) and isinstance(figures, dict):
        names_there = {
            "log p(x)": "log_p_x",
            "±": "log_p_x_standard_error",
            "K": "num_importance_samples",
            "n of log p(x)": "num_examples",
        }
        found = {column: figures.get(name) for column, name in names_there.items()}
        if isinstance(found["log p(x)"], float) and isinstance(found["±"], float | type(None)):
            row |= found
    return row


def is_of(header: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Whether metrics.json holds figures of this checkpoint's weights; older files have only the number of steps."""
    if "weights" in header and "weights" in metrics:
        return header["weights"] == metrics["weights"]
    return metrics.get("steps") == header["iterations"] and not header.get("step")


def averages_over_seeds(
    rows: Sequence[Mapping[str, Any]], headers: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Two rows for each group of runs that differ in the seed alone: their mean and their standard deviation."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    compared = [name for name in names(kept=True) if name != "seed" and not ROWS[name].per_machine]
    for row, header in zip(rows, headers, strict=True):
        config = {name: header["config"].get(name) for name in compared}
        by_epoch = [{**row, "seed": None} for row in header.get("settings", [])]
        data = header["dataset"]["fingerprint"]
        key = json.dumps([config, by_epoch, data, row["split"], row["epoch"], row["K"], row["n of log p(x)"]])
        groups.setdefault(key, []).append(row)
    averages = []
    for group in groups.values():
        if len({row["seed"] for row in group}) < 2:
            continue
        same = {name: group[0][name] for name in COLUMNS if all(row[name] == group[0][name] for row in group)}
        complete = [name for name in FIGURES if all(row[name] is not None for row in group)]
        for label, statistic in (("mean", statistics.mean), ("deviation", statistics.stdev)):
            figures = {name: statistic([row[name] for row in group]) for name in complete}
            run = f"{label} of {len(group)} seeds"
            averages.append(dict.fromkeys(COLUMNS) | same | figures | {"run": run, "±": None})
    return averages


def held_out_split(history: Sequence[Mapping[str, float]]) -> str:
    """The split of the held-out figures: test or validation."""
    return next(name for name in history[0] if name.endswith("_elbo") and name != "train_elbo").removesuffix("_elbo")


def held_out_curves(history: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """epoch, elbo, rate and distortion of held-out data after every epoch. Of a model that infers labels also the error
    in percent, NaN where an older version of the program had none."""
    split = held_out_split(history)
    curves = {name: [row[f"{split}_{name}"] for row in history] for name in ("elbo", "rate", "distortion")}
    if any(f"{split}_error" in row for row in history):
        curves["error"] = [100 * row.get(f"{split}_error", math.nan) for row in history]
    return {"epoch": [row["epoch"] for row in history], **curves}


def shown(value: Any) -> str:
    if isinstance(value, float) and value and abs(value) < 0.1:
        return f"{value:.2g}"
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) and not math.isnan(value) else str(value)
