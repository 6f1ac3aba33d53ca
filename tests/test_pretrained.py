"""The trained models that come with the program."""

import hashlib
import re

import numpy as np
import pytest
from conftest import REPOSITORY, SHARED_MNIST, metrics

import vae

FOLDER = REPOSITORY / "pretrained"
PAGE = (FOLDER / "README.md").read_text("utf-8")
FILES = sorted(path.name for path in FOLDER.glob("*.h5"))
LARGEST = 12e6  # bytes, of all together


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table with this last column: file -> the other columns."""
    table = re.search(rf"^\| file .*\| {heading} \|\n\|[-|]+\n((?:\|.+\n)+)", PAGE, re.MULTILINE)[1]
    cells = [[cell.strip(" `") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
    return {name: columns for name, *columns in cells}


def test_the_page_has_every_file_with_its_digest_and_they_are_small():
    digests = {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in FILES}
    assert digests == {name: columns[0] for name, columns in rows("SHA-256").items()}
    assert sorted(rows("MB")) == FILES
    assert sum((FOLDER / name).stat().st_size for name in FILES) <= LARGEST


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("vlae")) for name in FILES]
)
def test_a_model_samples_before_any_training(name, script, capsys):
    labels = [] if name.startswith("vae") else ["--labels", "3"]
    flags = ["--offline", "--num_samples", 4, *labels]
    assert script("--sample", "--checkpoint", FOLDER / name, *flags, only=True) == 0
    model, run = name.split("_")[0], name.removesuffix(".weights.h5")
    samples = np.load("_".join([f"outputs/{model}/{run}/samples", *labels[1:]]) + ".npz")["images"]
    assert samples.shape == (4, 28, 28, 1)
    np.testing.assert_array_equal(samples, vae.load(FOLDER / name).sample(4, 3 if labels else None))
    assert 0.05 < samples.mean() < 0.3, "as much ink as in digits"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_MNIST.is_dir(), reason="needs the real MNIST files in ../shared/data/mnist")
@pytest.mark.parametrize("name", FILES)
def test_the_figures_on_the_page_are_those_of_the_test_set(name, script):
    """log p(x) of a VLAE takes 20 minutes for all digits: 500 are scored anew, and must be near it."""
    elbo, log_p_x = (float(re.match(r"-[\d.]+", text)[0]) for text in rows("MB")[name][1:3])
    flags = ["--evaluate", "--checkpoint", FOLDER / name, "--data_dir", SHARED_MNIST]
    outputs = f"outputs/{name.split('_')[0]}/{name.removesuffix('.weights.h5')}"
    if name.startswith("vlae"):
        some = ["--num_importance_samples", 128, "--max_examples", 500, "--output_dir", "some"]
        assert script(*flags, *some, only=True) == 0
        found = metrics(outputs.replace("outputs", "some"))["test"]
        assert abs(found["log_p_x"] - log_p_x) < 3 * found["log_p_x_standard_error"]
        assert found["log_p_x"] - found["elbo"] == pytest.approx(log_p_x - elbo, abs=0.2)
        flags += ["--num_importance_samples", 0]
    assert script(*flags, only=True) == 0
    found = metrics(outputs)["test"]
    assert found["num_examples"] == 10_000
    assert found["elbo"] == pytest.approx(elbo, abs=0.006)
    if not name.startswith("vlae"):
        assert found["log_p_x"] == pytest.approx(log_p_x, abs=0.006)
