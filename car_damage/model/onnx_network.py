"""A network in the format ONNX. ONNX Runtime starts it in a third of the time that TensorFlow takes, in a quarter of the memory.

A copy of this module is part of every model that answers with it, so it imports nothing else of this project.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class OnnxNetwork:
    """Called like the Keras network that it was made from. Several threads may call it at the same time.

    Args:
        network: a file, or its content; input (n, 224, 224, 3) uint8, output (n, classes) float32. It may have more outputs: the second is
            (n, h, w, classes) float32.
        threads: that work on one call, at most; 0: one for each core.
    """

    def __init__(self, network: Path | bytes, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait for work would take the processor from those that decode photos.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            network if isinstance(network, bytes) else str(network), options, providers=["CPUExecutionProvider"]
        )
        (self.input,) = (tensor.name for tensor in self._session.get_inputs())
        outputs = self._session.get_outputs()
        self._names = [output.name for output in outputs]
        self.output_shape: tuple[Any, ...] = tuple(outputs[0].shape)
        """(anything, classes)."""

    def __call__(self, photos: npt.NDArray[np.uint8], training: bool = False) -> npt.NDArray[np.float32]:
        """(n, 224, 224, 3) uint8 -> (n, classes) float32. `training` is for Keras' sake: this network can only answer."""
        if training:
            raise ValueError("a network in the format ONNX cannot be trained")
        (probabilities,) = self._session.run(self._names[:1], {self.input: photos})
        return np.asarray(probabilities, dtype=np.float32)

    def places(self, photos: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
        """(n, h, w, classes): what each place of the photos says for each class. None: this network cannot say."""
        if len(self._names) == 1:
            return None
        (said,) = self._session.run(self._names[1:], {self.input: photos})
        return np.asarray(said, dtype=np.float32)
