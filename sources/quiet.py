"""Imports TensorFlow without its start-up messages."""

import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow, whose start-up messages go past Python straight to file descriptor 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # other programs may need another
    if "tensorflow" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)  # Keras imports matplotlib, which may lack Jupyter's backend
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")  # here, because it too writes to file descriptor 2
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
