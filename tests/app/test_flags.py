import re
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY, run_process

from app import flags, settings
from parts.catalogue import MODELS


@pytest.fixture(scope="session", autouse=True)
def no_xla():
    """Nothing is trained here: the fixture of this name in conftest.py would import TensorFlow."""


def parse(line):
    return flags.parse_flags(line.split())


def refuse(line, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse(line)
    message = capsys.readouterr().err
    assert exit_info.value.code == 2
    assert message.count("\n") == 1, "one line"
    return message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("--is_cvae --load_weights", {"model": "cvae", "load_weights": True}),
        (
            "--num_epochs 10 --batch_size 128 --latent_size 15",
            {"num_epochs": 10, "batch_size": 128, "latent_size": 15},
        ),
        ("--n_epochs 3 --latent_dim 7 --lr 5e-4", {"num_epochs": 3, "latent_size": 7, "learning_rate": 5e-4}),
        ("--cuda false", {"device": "cpu"}),
        ("--cuda true", {"device": "gpu"}),
        ("--cuda 1 --device gpu:1", {"device": "gpu:1"}),
        ("--is_cvae --labels 3 7", {"model": "cvae", "labels": ("3", "7")}),
        ("--hidden_dims 32 64", {"hidden_dims": (32, 64)}),
    ],
)
def test_flags_and_their_aliases(line, expected):
    assert parse(line) == expected


@pytest.mark.parametrize("flag", ["--num_epochs", "--batch_size", "--latent_size", "--hidden_dims", "--num_samples"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "nan"])
def test_counts_are_whole_numbers_of_at_least_one(flag, value, capsys):
    assert f"must be a whole number of at least 1, not '{value}'" in refuse(f"{flag} {value}", capsys)


@pytest.mark.parametrize("value", ["0", "-0.001", "1e-320", "nan", "fast"])
def test_the_learning_rate_is_positive(value, capsys):
    assert "must be a number of at least 1e-30" in refuse(f"--lr {value}", capsys)


@pytest.mark.parametrize("flag", ["--beta", "--warmup_epochs", "--free_bits"])
@pytest.mark.parametrize("value", ["-1", "nan"])
def test_weights_of_the_rate_are_not_negative(flag, value, capsys):
    assert "must be a number of at least 0" in refuse(f"{flag} {value}", capsys)
    assert parse(f"{flag} 0") == {flag[2:]: 0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--latent_sise 3", "did you mean --latent_size?"),
        ("--epochs=3", "did you mean --n_epochs?"),
        ("--is_cvae --model vae", "--is_cvae contradicts --model vae"),
        ("--cuda true --device cpu", "--cuda contradicts --device cpu"),
        ("--labels 3", "--labels needs --model cvae or m2 or m1m2 or vlae"),
        ("--model m2 --augmentation shift --consistency 0", "--augmentation contradicts --consistency 0"),
        ("--model gan", f"must be {', '.join([*MODELS][:-1])} or {[*MODELS][-1]}, not 'gan'"),
        ("--beta 0 --free_bits 1", "--free_bits contradicts --beta 0"),
        ("--warmup_epochs 2 --beta 0", "--warmup_epochs contradicts --beta 0"),
        (
            "--likelihood sigma --binarize dynamic",
            "--likelihood sigma is for grey levels: binary pixels need bernoulli",
        ),
        ("--is_cvae --model vlae", "--is_cvae contradicts --model vlae"),
        ("--model vlae --window 4", "must be odd, from 3 to 63, or 0, not '4'"),
        ("--model vlae --window 1", "must be odd, from 3 to 63, or 0, not '1'"),
        ("--model vlae --window -3", "must be odd"),
        ("--window 7", "--window needs --model vlae"),
        ("--unconditional", "--unconditional needs --model vlae"),
        ("--is_cvae --unconditional", "--unconditional needs --model vlae"),
        ("--model vlae --unconditional --labels 3", "--labels contradicts --unconditional"),
        ("--model vlae --window 7 --likelihood sigma", "--likelihood sigma has no window"),
        ("--model vlae --prior standard --labels 3", "--labels contradicts --prior standard"),
        ("--compare vae/a --sample", "--compare takes runs as they are"),
        ("--evaluate --tensorboard", "--tensorboard goes with training"),
        (
            "--sample --max_examples 3",
            "goes with training, --evaluate, --score, --fill_in or --compress, not with --sample",
        ),
        ("--sample --ood_dataset noise", "--ood_dataset goes with training or --evaluate"),
        ("--max_examples 0", "must be a whole number of at least 1"),
        ("--device tpu", "must be auto, cpu, gpu or gpu:N"),
        ("--cuda maybe", "must be true or false"),
        ("--run_name ../x", "must be a plain folder name"),
    ],
)
def test_wrong_and_contradictory_flags(line, message, capsys):
    assert message in refuse(line, capsys)


def help_texts():
    """What --help says of each flag, in one line."""
    return {action.dest: " ".join(action.help.split()) for action in flags.build_parser()._actions}


def test_every_default_stands_in_help_as_a_whole_word():
    """With its variants: "default 10; colour: 20; vlae on images: 30"."""
    texts = help_texts()
    for name, row in settings.ROWS.items():
        default = getattr(settings.DEFAULTS, name)
        shown = [value for value in (default, *row.by.values()) if not isinstance(value, settings.Computed)]
        if row.switch or row.default_text:
            continue
        defaults = re.split(r"[\s;]+", texts[name].rpartition("default ")[2])
        for value in shown:
            for word in flags.shown(value).split() if value is not None else ():
                assert word in defaults, (name, word, texts[name])


def test_help_and_a_wrong_flag_answer_without_tensorflow(tmp_path):
    assert run_process("--help", cwd=tmp_path).returncode == 0
    assert run_process("--nonsense", cwd=tmp_path).returncode == 2
    check = (
        "import sys, assignment\n"
        "try: assignment.main(['--help'])\n"
        "except SystemExit: sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True).returncode == 0


def test_help_is_not_slow(tmp_path):
    """Half a second is promised; the limit here allows for a busy machine, TensorFlow alone would take longer."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        run_process("--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--image_size 100000", "argument --image_size: must be at most 2048, not '100000'"),
        ("--image_size 1 2 3", "argument --image_size: takes one number, or height and width, not 3"),
        ("--hidden_dims 65536 65536", "must be at most 8192"),
        ("--latent_size 2000000000", "must be at most 4096"),
        ("--lr inf", "must be at most 1e+30"),
        ("--beta 1e300", "must be at most 2147483647"),
        ("--num_samples 2000000000", "must be at most 100000"),
        ("--num_epochs 99999999999", "must be at most 2147483647"),
        ("--run_name a.previous", "must be a plain folder name"),
    ],
)
def test_what_would_end_in_memory_errors_or_lost_runs_is_refused(capsys, flags, message):
    assert message in refuse(flags, capsys)
