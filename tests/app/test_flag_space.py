"""The flag space: whatever stands on the command line, the answer is work or one clear line.

All is derived from the parser, so a new flag is tried as soon as it is there.
"""

import argparse
import contextlib
import functools
import io
import json
import math
import os
import pathlib
import re
import shutil
import tempfile

import numpy as np
import pytest
from conftest import save_one_pixel
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from app import flags

ACTIONS = {action.dest: action for action in flags.build_parser()._actions if action.dest != "help"}


def accepts(action, text):
    try:
        return action.type is not None and action.type(text) is not None
    except argparse.ArgumentTypeError:
        return False


def is_numeric(action):
    return accepts(action, "3") and type(action.type("3")) in (int, float)


NUMERIC = [name for name, action in ACTIONS.items() if is_numeric(action)]
CHOICES = {name: action.choices for name, action in ACTIONS.items() if action.choices}
CHOICES |= {"cuda": ("true", "false"), "device": ("auto", "cpu", "gpu")}
ODD_NUMBERS = ("0", "-0", "-1", "-0.5", "0.5", "1e-320", "1e39", "1e400", "2147483647", "2147483648", "9" * 400, "nan",
               "inf", "-inf", "", " ", "three", "3,5", "0x10", "3\n4")  # fmt: skip


def parse(*argv):
    """The flags, or None and the error's one line."""
    errors, given, code = io.StringIO(), None, 2
    with contextlib.redirect_stderr(errors):
        try:
            given = flags.parse_flags([*argv])
        except SystemExit as refusal:
            code = refusal.code
    if given is None:
        assert code == 2
        return None, one_line(errors.getvalue())
    assert errors.getvalue() == ""
    return given, ""


def one_line(errors):
    assert errors.startswith("assignment.py: error: ")
    assert len(errors.splitlines()) == 1
    return errors


def test_there_are_flags_of_each_kind():
    assert {"num_epochs", "beta", "window", "hidden_dims", "seed"} <= {*NUMERIC}
    assert {"model", "network", "activation", "prior", "likelihood", "binarize"} <= CHOICES.keys()


@pytest.mark.parametrize("name", NUMERIC)
def test_an_odd_number_is_one_that_32_bits_hold_or_is_refused(name):
    for text in ODD_NUMBERS:
        given, message = parse(f"--{name}={text}")
        if given is None:
            assert f"--{name}" in message, text
            continue
        for value in np.ravel(given[name]).tolist():
            assert value == float(text)
            assert 0 <= value <= 1e30
            assert isinstance(value, float) or value < 2**31
            assert math.isfinite(np.float32(value))
            assert (np.float32(value) == 0) == (value == 0)


@pytest.mark.parametrize(("name", "choice"), [(name, choice) for name in CHOICES for choice in CHOICES[name]])
def test_a_mistyped_choice_is_told_the_choices_and_the_nearest(name, choice):
    swapped = choice[:-2] + choice[:-3:-1] if len(choice) > 2 else choice
    for wrong in {choice + choice[-1], swapped, choice.upper()} - {choice}:
        given, message = parse(f"--{name}", wrong)
        if name == "cuda" and wrong == choice.upper():
            assert given == parse(f"--{name}", choice)[0], "the one flag whose case does not matter"
            continue
        assert given is None, wrong
        assert f"argument --{name}: must be " in message
        assert f"not '{wrong}': did you mean {choice}?" in message
        assert all(other in message for other in CHOICES[name])
    given, message = parse(f"--{name}", "xyzzy")
    assert given is None
    assert "did you mean" not in message
    assert all(other in message for other in CHOICES[name])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dataset", "minst", "unknown dataset 'minst': did you mean mnist? There are mnist,"),
        ("dataset", "noise", "unknown dataset 'noise'"),
        ("dataset", "no/such folder", "there is no file or folder no/such folder"),
        ("dataset", "x" * 300, "[Errno 36] File name too long"),
        ("ood_dataset", "nosie", "unknown dataset 'nosie': did you mean noise?"),
        ("ood_dataset", "cifar", "unknown dataset 'cifar': did you mean cifar10?"),
    ],
)
def test_a_mistyped_dataset_is_told_before_anything_is_loaded(name, text, message):
    given, line = parse(f"--{name}", text)
    assert given is None
    assert f"argument --{name}: {message}" in line


@pytest.mark.parametrize("name", ["checkpoint", "data_dir", "checkpoint_dir", "output_dir", "run_name", "dataset"])
def test_a_shell_variable_that_was_never_set_is_not_taken_for_a_path(name):
    given, line = parse(f"--{name}", "")
    assert given is None
    assert f"--{name}" in line


# Values with which a tiny run ends soon, where any other would do for a flag of its kind.
DATA = ["mnist", "moons", "colour.npz", "grey.npz", "several.npz"]
TINY = {
    "dataset": DATA,
    "encode": DATA,
    "score": DATA,
    "fill_in": DATA,
    "compress": DATA,
    "decompress": ["there", "nothing.vz"],
    "hide": ["left", "0.5"],
    "to": ["there"],
    "inliers": ["0", "2", "nothing"],
    "ood_dataset": ["noise", "mnist", "moons", "colour.npz", "grey.npz"],
    "compare": ["vae/mnist", "cvae/colour", "nothing"],
    "data_dir": ["data"],
    "checkpoint_dir": ["model_ckpts"],
    "output_dir": ["outputs", "pictures"],
    "run_name": ["mnist", "again"],
    "checkpoint": ["newest.weights.h5", "nothing.weights.h5", "grey.npz"],
    "device": ["auto", "cpu", "gpu:7"],
    "strategy": ["none"],  # the others need a process of their own
    "num_epochs": ["1", "2"],
    "batch_size": ["7", "32", "2147483647"],
    "learning_rate": ["1e-30", "1e-3", "1", "1e30"],
    "latent_size": ["1", "2", "5"],
    "hidden_dims": ["1", "8"],
    "window": ["0", "3", "63"],
    "image_size": ["1", "2", "11"],
    "num_samples": ["1", "3"],
    "num_importance_samples": ["0", "3"],
    "labels": ["0", "2", "9", "nothing"],
}


def plausible(action):
    """Texts that the flag takes on its own."""
    if action.dest in TINY:
        return TINY[action.dest]
    if action.choices:
        return list(action.choices)
    return [text for text in ("0", "0.5", "1", "5", "2147483647", "true", "false") if accepts(action, text)]


def arguments(action, values):
    """Strategy: the flag, by one of its names, with as many values as it takes."""
    names = st.sampled_from(action.option_strings)
    if action.nargs == 0:
        return names.map(lambda name: [name])
    most = 3 if action.nargs == "+" else 1
    return st.tuples(names, st.lists(values, min_size=1, max_size=most)).map(lambda drawn: [drawn[0], *drawn[1]])


def command_lines(kinds, most):
    return st.lists(st.one_of(kinds), max_size=most).map(lambda parts: [text for part in parts for text in part])


ANYTHING = [
    arguments(action, st.sampled_from(plausible(action) or [""]) | st.sampled_from(ODD_NUMBERS) | st.text())
    for action in ACTIONS.values()
]


@settings(max_examples=300, derandomize=True, deadline=None)
@given(command_lines([*ANYTHING, st.lists(st.text(), min_size=1, max_size=1)], 6))
def test_any_combination_of_flags_is_read_or_refused_in_one_line(argv):
    given, _ = parse(*argv)
    assert given is None or given.keys() <= ACTIONS.keys()


# The whole program, with flags that are each plausible

SMALL = "--num_epochs 1 --hidden_dims 4 --latent_size 3 --num_samples 2".split()
WHAT_TO_DO = (
    "train", "evaluate", "sample", "encode", "score", "fill_in", "compress", "decompress", "explore", "load_weights",
    "checkpoint",
)  # fmt: skip
SETTINGS = [name for name in ACTIONS if name not in (*WHAT_TO_DO, "compare", "dataset", "model")]


def some(random, names, least, most):
    """A few of these flags, with plausible values."""
    drawn = []
    for name in random.sample(names, random.randint(least, most)):
        action = ACTIONS[name]
        number = 0 if action.nargs == 0 else random.randint(1, 2) if action.nargs == "+" else 1
        drawn += [random.choice(action.option_strings), *(random.choice(plausible(action)) for _ in range(number))]
    return drawn


def draw_session(random):
    """A training run, and a command that may have to do with it: with its flags repeated, or not."""
    of_run = ["--dataset", random.choice(TINY["dataset"]), "--model", random.choice(ACTIONS["model"].choices)]
    first = [*SMALL, *of_run, *some(random, SETTINGS, 2, 6)]
    known = random.choice([first, ["--num_epochs", "2", *of_run]])
    return first, [*known, *some(random, WHAT_TO_DO, 1, 2), *some(random, SETTINGS, 0, 2)]


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory, idx_folder):
    """Image sets of several kinds in a folder, and fewer moons."""
    import data

    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("tiny")
    labels = np.arange(40) % 3
    np.savez(folder / "colour.npz", images=rng.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8), labels=labels)
    np.savez(folder / "grey.npz", images=rng.integers(0, 256, (40, 7, 4), dtype=np.uint8))
    several = rng.integers(0, 2, (40, 3), dtype=np.uint8)
    np.savez(folder / "several.npz", images=rng.integers(0, 2, (40, 5, 5), dtype=np.uint8) * 255, labels=several)
    (folder / "data").symlink_to(idx_folder)
    with pytest.MonkeyPatch.context() as patch:
        few = functools.partial(data.load_toy_set, noise=0.05, num_train=100, num_test=30)
        patch.setitem(data.DATASETS, "moons", few)
        yield folder


def run_session(tiny_data, session):
    """Run commands one after the other in a folder of their own; each ends well, or with one line."""
    import assignment
    import visualize

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(visualize, "save", save_one_pixel)
        for path in tiny_data.iterdir():
            os.symlink(path, path.name)
        for argv in session:
            streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
            with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
                try:
                    code = assignment.main(argv)
                except SystemExit as refusal:
                    code = refusal.code
            output, errors = (stream.buffer.getvalue().decode() for stream in streams)
            print(code, *argv, errors)  # for whoever reads of a failure
            for path in pathlib.Path("model_ckpts").glob("*/*/[vc]*.weights.h5"):
                shutil.copy(path, "newest.weights.h5")
            assert code in (0, 1, 2), argv
            if code:
                one_line(errors)
            else:
                assert errors == ""
                assert not re.search(r"\b(nan|inf)\b", output)
                for path in pathlib.Path().glob("*/*/*/metrics.json"):
                    json.loads(path.read_text(), parse_constant=pytest.fail)


in_process = settings(derandomize=True, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])


def try_session(tiny_data, random):
    session = draw_session(random)
    assume(parse(*session[0])[0])
    run_session(tiny_data, session)


@pytest.mark.slow
@settings(in_process, max_examples=3)
@given(random=st.randoms(use_true_random=True))
def test_runs_with_plausible_flags_end_well_or_with_one_line(tiny_data, random):
    try_session(tiny_data, random)


@pytest.mark.slow
@settings(in_process, max_examples=15)
@given(random=st.randoms(use_true_random=True))
def test_more_runs_with_plausible_flags_end_well_or_with_one_line(tiny_data, random):
    try_session(tiny_data, random)
