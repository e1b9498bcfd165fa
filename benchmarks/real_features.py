"""What the backbone of docs/model.md sees in real photos, by the recipe of the service: for the benchmarks answers, doubt and monitor.

It costs minutes of one core, so it is kept in build/features.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.trials_features import library
from car_damage.adapters.clock import SystemClock
from car_damage.adapters.folder import Folder
from car_damage.data.photos.splits import TRAIN
from car_damage.machine import cores
from car_damage.model.networks import backbone
from car_damage.model.networks.seer import Seer
from car_damage.model.networks.views import PLAIN, chosen
from car_damage.model.pixels.resolution import learn
from car_damage.photo.decoder import decode
from car_damage.photo.limits import SIZE, Limits
from car_damage.photo.preparation import Preparation
from car_damage.photo.signals import Signals, signals
from car_damage.settings import Training

KEPT = Path("build/features")
_NETWORK = KEPT / "backbone.onnx"


@dataclass(frozen=True)
class PhotoFacts:
    """What is known of n photos before a head answers."""

    features: npt.NDArray[np.float32]
    """(n, views, d); the first view is the photo as the served model gets it."""
    brightness: npt.NDArray[np.float64]
    sharpness: npt.NDArray[np.float64]
    warmth: npt.NDArray[np.float64]
    width: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]

    @property
    def plain(self) -> npt.NDArray[np.float32]:
        """(n, d) of the photos as the served model gets them."""
        return self.features[:, 0]


class RealFeatures:
    """The photos, and what a backbone sees in them, with the preparation that is learned from train/."""

    def __init__(self, place: Path) -> None:
        self.photos = library(place)
        self.settings = Training(
            network="transfer", backbone=str(self.photos.weights), layers=("block10_add", "block14_add"), resolution="common"
        )

    @cached_property
    def train(self) -> PhotoFacts:
        """The photos of train/, in all views from which a head learns."""
        return self._kept("train", self.photos.train, Path.read_bytes, chosen(self.settings))

    @cached_property
    def val(self) -> PhotoFacts:
        """The photos of val/."""
        return self.changed("val", Path.read_bytes)

    def changed(self, name: str, read: Callable[[Path], bytes]) -> PhotoFacts:
        """The photos of val/ as `read` makes them, kept by this name."""
        return self._kept(name, self.photos.val, read, (PLAIN,))

    def _kept(self, name: str, rows: npt.NDArray[np.int64], read: Callable[[Path], bytes], views: Sequence[str]) -> PhotoFacts:
        kept = KEPT / f"{name}.npz"
        if not kept.exists():
            print(f"{name}: {len(rows)} photos", flush=True)
            seen = self._seen(self._files(rows), read, Seer(self._network, Limits(), self._preparation, views))
            part = kept.with_suffix(".part.npz")
            np.savez(part, **vars(seen))
            part.replace(kept)
        with np.load(kept) as there:
            return PhotoFacts(**{key: there[key] for key in PhotoFacts.__dataclass_fields__})

    def _seen(self, files: Sequence[Path], read: Callable[[Path], bytes], seer: Seer) -> PhotoFacts:
        def one(file: Path) -> tuple[npt.NDArray[np.float32], Signals, tuple[int, int]]:
            photo = decode(read(file), Limits(), self._preparation)
            return seer.of(photo.pixels[None])[0], signals(photo.pixels), (photo.width, photo.height)

        with ThreadPoolExecutor(cores()) as pool:  # each photo by one thread
            features, looks, sizes = zip(*pool.map(one, files), strict=True)
        return PhotoFacts(np.stack(features), *np.array(looks).T, *np.array(sizes).T)

    @cached_property
    def _preparation(self) -> Preparation:
        files = self._files(self.photos.train)
        sha256s = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        width, height = self.photos.sizes[self.photos.train].T.tolist()
        rows = {"path": [str(file) for file in files], "sha256": sha256s, "split": [TRAIN] * len(files), "width": width, "height": height}
        return learn(pa.table(rows), Folder(), 0, SystemClock())

    @cached_property
    def _network(self) -> bytes:
        if not _NETWORK.exists():
            KEPT.mkdir(parents=True, exist_ok=True)
            loaded = backbone.load(self.settings, Folder(), self._preparation)
            exported = loaded.exported([], lambda: np.zeros((0, SIZE, SIZE, 3), np.uint8))
            if exported.onnx is None:
                raise RuntimeError(f"the backbone cannot be exported: {exported.why_keras}")
            _NETWORK.write_bytes(exported.onnx)
        return _NETWORK.read_bytes()

    def _files(self, rows: npt.NDArray[np.int64]) -> list[Path]:
        return [self.photos.files[row] for row in rows]


@cache
def of(place: Path) -> RealFeatures:
    """Of the photos at this place."""
    return RealFeatures(place)
