"""Starts TensorFlow: its import takes seconds, and writes lines that no user can use."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator

_UNUSED = ("matplotlib", "sklearn")
"""Keras imports these packages where they are installed, for features that are not used here: a third of the time of its import."""
_STARTUP_LINE = re.compile(rb"[IWE]0000 |WARNING: All log messages before absl|To enable the following instructions")


def import_quietly() -> None:
    """Import TensorFlow and find its devices, without its startup lines on the terminal. Call this before other imports of it.

    TensorFlow's C++ code writes these lines directly to file descriptor 2, before it reads any variable about logging. So the
    output is redirected to a file, and then written to the terminal without these lines.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        return
    with tempfile.TemporaryFile() as kept:
        terminal = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            with _without(_UNUSED):
                import keras  # noqa: F401 - it imports TensorFlow
                import tensorflow as tf

            tf.config.list_logical_devices()  # looks for a GPU, and writes lines about it too
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            kept.seek(0)
            for line in kept:
                if not _STARTUP_LINE.match(line):
                    os.write(2, line)


def has_gpu() -> bool:
    """Whether TensorFlow computes on a GPU here."""
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def repeat(seed: int) -> None:
    """Let the trainings that follow repeat with this seed.

    A GPU adds numbers in the order in which its threads end, unless TensorFlow is told to use slower operations, which it then does for as
    long as the process lives. On a processor they would change nothing but the order in which a training gets its batches.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    if has_gpu():
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _without(packages: Iterable[str]) -> Iterator[None]:
    """During the block an import of these packages fails at once, unless they are already imported."""
    hidden = [name for name in packages if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # a package that is not there
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
