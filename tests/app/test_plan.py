"""What is wrong is told before TensorFlow is imported; printing never ends a run."""

import io
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import CHECKPOINT, REPOSITORY

from app.screen import Unbroken, unbroken_streams

CHECK = """
import sys
sys.path.insert(0, {repository!r})
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "tensorboard" else find_spec(name, *rest)
import assignment
for line in sys.stdin:
    print(assignment.main(line.split()), "tensorflow" in sys.modules, file=sys.stderr)
"""
REFUSED = {
    "--evaluate --checkpoint nowhere.weights.h5": "there is no checkpoint at nowhere.weights.h5",
    f"--checkpoint {CHECKPOINT} --latent_size 9": "checkpoint has latent_size 3, you asked for 9",
    f"--sample --checkpoint {CHECKPOINT} --labels 3": "--labels needs a conditional model",
    "--load_weights --is_cvae --run_name none": "there is no checkpoint at model_ckpts/cvae/none/cvae.weights.h5",
    "--tensorboard": "--tensorboard needs the package tensorboard",
    "--dataset empty": "holds no images",
    "--dataset moons --network conv": "--network conv is for images: points need mlp",
    "--sample --checkpoint assignment.weights.h5": "was not written by this program",
}


def test_what_checkpoint_and_data_can_tell_is_told_before_tensorflow_is_imported(tmp_path, trained_run):
    shutil.copytree(trained_run / "model_ckpts", tmp_path / "model_ckpts")
    (tmp_path / "empty").mkdir()
    (tmp_path / "assignment.weights.h5").write_text("nothing")
    program = CHECK.format(repository=str(REPOSITORY))
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(REFUSED),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers = done.stderr.splitlines()
    for message, error, code in zip(REFUSED.values(), answers[::2], answers[1::2], strict=True):
        assert error.startswith("assignment.py: error: ")
        assert message in error
        assert code == "1 False"


def compare(cwd, command):
    """Run a command of the shell, in which SCRIPT stands for --compare vae/mnist."""
    script = f"{sys.executable} {REPOSITORY / 'assignment.py'} --compare vae/mnist"
    return subprocess.run(
        ["bash", "-c", command.replace("SCRIPT", script)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("SCRIPT >&-", marks=pytest.mark.slow),
        "SCRIPT >&- 2>&-",
        "set -o pipefail; SCRIPT | true",
        pytest.param("PYTHONWARNINGS=error SCRIPT", marks=pytest.mark.slow),
    ],
)
def test_streams_that_nobody_reads_end_nothing(tmp_path, trained_run, command):
    shutil.copytree(trained_run / "model_ckpts", tmp_path / "model_ckpts")
    done = compare(tmp_path, command)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "outputs/comparison/comparison.csv").exists()


def test_a_broken_pipe_is_left_in_silence():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as broken:
        stream = Unbroken(broken)
        for _ in range(3):
            assert stream.write("a line\n") == 7
        stream.flush()


def test_streams_are_as_before_afterwards(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    before = sys.stdout
    with unbroken_streams():
        print("ü")
        assert sys.stdout is not before
    assert sys.stdout is before
    assert before.buffer.getvalue() == b"\\xfc\n"


def test_ctrl_c_before_the_handlers_are_there_leaves_no_traceback(tmp_path):
    """In the middle of the program's first imports, which here wait for it."""
    (tmp_path / "app.py").write_text("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)")
    (tmp_path / "assignment.py").write_text((REPOSITORY / "assignment.py").read_text())
    done = subprocess.run(
        [sys.executable, "assignment.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_strategy_is_made_before_data_are_loaded(script, monkeypatch, capsys):
    """Loading may compute with TensorFlow, which then divides its CPU into no more devices."""
    import data
    from storage.errors import UserError
    from training import devices

    def refuse(*arguments):
        raise UserError(f"asked for {arguments}")

    monkeypatch.setattr(devices, "make_strategy", refuse)
    monkeypatch.setitem(data.DATASETS, "mnist", lambda *_: pytest.fail("too early"))
    assert script("--strategy", "mirrored", "--num_replicas", 2) == 1
    assert "asked for ('mirrored', 'auto', 2)" in capsys.readouterr().err


def test_tensorflow_datasets_are_imported_in_quiet(monkeypatch, empty_tfds):
    from sources import downloads

    imports = []
    monkeypatch.setattr(downloads, "import_tensorflow", lambda: imports.append("quiet"))
    with pytest.raises(downloads.OutOfReachError, match="--offline"):
        downloads.read_tfds("mnist", offline=True)
    assert imports == ["quiet"]
