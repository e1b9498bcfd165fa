"""Computes what a backbone sees in a photo, from the photo's bytes, by ONNX Runtime: on this machine, and on Spark's machines.

Those get the backbone as a part of this object. They need ONNX Runtime, Pillow and numpy, and no TensorFlow.
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from car_damage.errors import SettingsError, UnusablePhoto
from car_damage.model.networks.views import VIEWS
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.packages import SEEING, that_train_here
from car_damage.photo.decoder import decode
from car_damage.photo.limits import Limits
from car_damage.photo.preparation import Preparation

ROW = pa.schema([pa.field("sha256", pa.string()), pa.field("features", pa.list_(pa.float32()))])
"""Of a file's bytes; and of the photo in each view, one behind the other. No features: the bytes are no usable photo."""


class Seer:
    """A `FileProcessor`, whose rows have the schema ROW.

    Args:
        backbone: in the format ONNX: (n, 224, 224, 3) uint8 -> (n, d) float32.
        limits: those of validation.
        preparation: of the photos.
        views: names of VIEWS.

    Raises:
        SettingsError: when called on a machine with other minor versions of the packages that compute.
    """

    def __init__(self, backbone: bytes, limits: Limits, preparation: Preparation, views: Sequence[str]) -> None:
        self._backbone, self._limits, self._preparation, self._views = backbone, limits, preparation, tuple(views)
        self._name = hashlib.sha256(backbone).hexdigest()
        self._packages = _packages()

    def __call__(self, path: str, data: bytes) -> Mapping[str, Any]:
        """See the port."""
        try:
            pixels = decode(data, self._limits, self._preparation).pixels
        except UnusablePhoto:
            return self.fatal(path, data, "")
        return {"sha256": hashlib.sha256(data).hexdigest(), "features": self.of(pixels[None])[0].ravel()}

    def fatal(self, path: str, data: bytes, why: str) -> Mapping[str, Any]:
        """See the port."""
        return {"sha256": hashlib.sha256(data).hexdigest(), "features": None}

    def of(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(n, 224, 224, 3) uint8 -> (n, views, d) float32."""
        backbone = _opened.get(self._name) or self._open()
        # One by one: a photo's features do not depend on which others are computed with it, and larger batches are no quicker.
        seen = [[backbone(np.ascontiguousarray(VIEWS[view](pixel[None])))[0] for view in self._views] for pixel in pixels]
        return np.asarray(seen, np.float32)

    def _open(self) -> OnnxNetwork:
        if self._packages != (here := _packages()):
            raise SettingsError(
                f"this machine has {here}, and the features are those of {self._packages}: install these versions on all machines"
            )
        with _opening:
            if self._name not in _opened:
                _opened.clear()
                # One thread: several photos are computed at the same time.
                _opened[self._name] = OnnxNetwork(self._backbone, threads=1)
            return _opened[self._name]


_opened: dict[str, OnnxNetwork] = {}
"""sha256 -> the last backbone, which stays open for the next task of this process."""
_opening = threading.Lock()


def _packages() -> dict[str, str]:
    return {package: version for package, version in that_train_here().items() if package in SEEING}
