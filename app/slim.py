"""--slim: a checkpoint to hand on, which holds the weights alone, in 16 bits."""

import pathlib
from collections.abc import Mapping
from typing import Any

from app.folders import CHECKPOINT
from app.rules import FlagError
from app.run import Run
from app.settings import DEFAULTS
from data import is_path, short_name
from storage.checkpoints import save_slim
from vae import load


def slim(run: Run, header: Mapping[str, Any]) -> None:
    """Write MODEL_RUN.weights.h5 to the run's outputs, or to the folder of --to. Paths of this machine are left out."""
    folder = pathlib.Path(run.settings.to or run.folders.outputs)
    path = folder / f"{run.folders.model}_{run.folders.name}{CHECKPOINT}"
    if path.resolve() == run.source.resolve():
        raise FlagError(f"--slim would replace {run.source} itself: name another folder with --to")
    config, dataset = header["config"], header["dataset"]
    config = config | {"data_dir": DEFAULTS.data_dir}
    if config.get("features"):
        config["features"] = pathlib.Path(config["features"]).name
    if is_path(config["dataset"]):
        config["dataset"] = f"./{short_name(config['dataset'])}"  # still a path, not the name of a dataset
    save_slim(
        load(run.source).model, path, {**header, "config": config, "dataset": dataset | {"source": dataset["name"]}}
    )
    sizes = [file.stat().st_size / 1e6 for file in (path, run.source)]
    print(
        f"wrote {path}: {sizes[0]:.1f} MB in place of {sizes[1]:.1f} MB, with the weights in 16 bits, and no optimizer"
    )
