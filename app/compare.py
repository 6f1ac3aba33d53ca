"""Runs side by side: their curves in one picture, their figures in one table. Needs no TensorFlow."""

import csv
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import visualize
from app import flags
from app.config import read_run, run_folders
from storage.checkpoints import CheckpointError, reading
from storage.errors import UserError
from storage.files import make_folder, replacing

FORESEEABLE = (UserError, OSError, MemoryError)
CONDITIONS = ("dataset", "split", "binarize", "likelihood", "bound on")  # the same where figures can be compared
COLUMNS = ("run", *CONDITIONS, "latents", "epoch", "elbo", "rate", "distortion", "n", "log p(x)", "K", "n of log p(x)")


def run(given: dict[str, Any]) -> None:
    """--compare: comparison.png, comparison.csv, and the table on the screen."""
    config = flags.DEFAULTS | given
    checkpoint_dir, output_dir = (pathlib.Path(config[name]) for name in ("checkpoint_dir", "output_dir"))
    paths = [find_checkpoint(name, checkpoint_dir) for name in config["compare"]]
    rows, curves = [], {}
    for label, path in {short_label(path, paths): path for path in paths}.items():
        with reading(path):
            header = read_run(path)
            if not header["history"]:
                raise CheckpointError(f"{path} has no whole epoch yet to compare")
            rows.append(describe(label, header, output_dir))
            curves[label] = held_out_curves(header["history"])
    table = [[shown(row[column]) for column in COLUMNS] for row in rows]
    folder = output_dir / (config["run_name"] or "comparison")
    make_folder(folder)
    with replacing(folder / "comparison.csv") as path, open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    values = {condition: sorted({str(row[condition]) for row in rows}) for condition in CONDITIONS}
    differences = [f"{condition} is {' and '.join(found)}" for condition, found in values.items() if len(found) > 1]
    note = f"Not comparable with one another: {'; '.join(differences)}" if differences else ""
    visualize.save_comparison(folder / "comparison.png", curves, COLUMNS, table, note)
    widths = [max(map(len, column)) for column in zip(COLUMNS, *table, strict=True)]
    for line in (COLUMNS, *table):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    for difference in differences:
        print(f"NOTE: these figures are not comparable with one another: {difference}")
    print(f"picture and table: {folder}")


def find_checkpoint(name: str, checkpoint_dir: pathlib.Path) -> pathlib.Path:
    """A checkpoint's own path, or the newest one of a run, named MODEL/RUN or by either of its folders."""
    path = pathlib.Path(name)
    if path.is_file():
        return path
    for folder in (path, checkpoint_dir.joinpath(*path.parts[-2:])):
        newest = folder / f"{folder.parent.name}.weights.h5"
        if newest.is_file():
            return newest
    raise flags.FlagError(
        f"--compare: {name} is neither a checkpoint nor a run, such as vae/mnist, in {checkpoint_dir}"
    )


def short_label(path: pathlib.Path, paths: list[pathlib.Path]) -> str:
    """model/run, and the file's name too where several are of one run."""
    run = "/".join(path.parts[-3:-1])
    alone = sum(other.parent == path.parent for other in paths) == 1
    return run if alone and run else "/".join(path.parts[-3:]).removesuffix(".weights.h5")


def describe(label: str, header: Mapping[str, Any], output_dir: pathlib.Path) -> dict[str, Any]:
    """A row of the table. The ELBO is that of the last epoch, of all n examples; log p(x) that of metrics.json, if of
    the same step, of as many as were evaluated."""
    config, model = header["config"], header["model"]
    split, curves = held_out_split(header["history"]), held_out_curves(header["history"])
    knows_classes = model["model"] == "cvae" or (model["num_classes"] and model.get("prior", "standard") != "standard")
    row = {
        "run": label,
        "dataset": header["dataset"]["name"],
        "split": split,
        "binarize": config["binarize"],
        "likelihood": config["likelihood"],
        "bound on": "log p(x|y)" if knows_classes else "log p(x)",
        "latents": config["latent_size"],
        "epoch": header["epoch"],
        **{name: curves[name][-1] for name in ("elbo", "rate", "distortion")},
        "n": header["dataset"].get("held_out", "all"),  # older checkpoints do not tell
        "log p(x)": None,
        "K": None,
        "n of log p(x)": None,
    }
    outputs = run_folders({**config, "checkpoint_dir": "", "output_dir": output_dir})[1]
    try:
        metrics = json.loads((outputs / "metrics.json").read_text())
    except (OSError, ValueError):
        return row
    found = metrics.get(split, {})
    is_of_it = metrics.get("steps") == header["iterations"] and not header.get("step")
    if is_of_it and "log_p_x" in found:
        row |= {
            "log p(x)": found["log_p_x"],
            "K": found["num_importance_samples"],
            "n of log p(x)": found["num_examples"],
        }
    return row


def held_out_split(history: list[Mapping[str, float]]) -> str:
    """test or validation"""
    return next(name for name in history[0] if name.endswith("_elbo") and name != "train_elbo").removesuffix("_elbo")


def held_out_curves(history: list[Mapping[str, float]]) -> dict[str, list[float]]:
    """epoch, elbo, rate and distortion of held-out data after every epoch."""
    split = held_out_split(history)
    curves = {name: [row[f"{split}_{name}"] for row in history] for name in ("elbo", "rate", "distortion")}
    return {"epoch": [row["epoch"] for row in history], **curves}


def shown(value: Any) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
