"""Draws the picture of what "lossy" means in docs/models.md: digits decompressed by VLAEs of several windows.

    python benchmarks/lossy.py CHECKPOINT [CHECKPOINT ...] --data_dir DIR --to docs/vlae_lossy.png

Each checkpoint is of a VLAE trained on MNIST with another --window. Its row shows draws from p(x|z) at the posterior
mean of the digits in the first row, and says how many bits a digit spends in z: the rate of the first 1,000 test ones.
"""

import argparse
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np

import visualize
from data import load_dataset
from pictures.batches import to_batch
from sources.batches import evaluation_batches
from storage.checkpoints import load_weights, read_header
from training.loop import compile_model
from vae import build_model

NUM_DIGITS, NUM_SCORED = 10, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--to", default="lossy.png")
    arguments = parser.parse_args()
    dataset = load_dataset("mnist", arguments.data_dir)
    numbers = dataset.test.labels.argmax(axis=1)
    one_of_each = [int(np.flatnonzero(numbers == digit)[1]) for digit in range(NUM_DIGITS)]
    x, labels = to_batch(dataset.test[one_of_each], "dynamic", seed=0)
    rows, names = [x.numpy()], ["original"]
    for checkpoint in arguments.checkpoints:
        header = read_header(checkpoint)
        model = build_model(**header["model"])
        compile_model(model)
        load_weights(model, checkpoint)
        batches = evaluation_batches(dataset.test[:NUM_SCORED], seed=0, binarize=header["config"]["binarize"])
        rate = model.evaluate(batches, verbose=0, return_dict=True)["rate"]
        mean, _ = model.encode(x, labels)
        params = model.likelihood_params(mean, labels)
        rows.append(model.draw(params, 0).numpy())
        names.append(f"window {model.arguments['window']}: {rate / math.log(2):.1f} bits")
        print(names[-1])
    visualize.save_image_grid(
        pathlib.Path(arguments.to),
        np.stack(rows),
        title="Decompressed: x ~ p(x|z), z from the original",
        row_labels=names,
    )


if __name__ == "__main__":
    main()
