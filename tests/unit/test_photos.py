import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from car_damage.adapters.folder import Folder
from car_damage.data.people.doubts import Doubt, Doubts
from car_damage.data.photos.checked import read_checked
from car_damage.errors import PhotoChanged, SettingsError, Unavailable
from car_damage.model.answering import Answering
from car_damage.model.pixels.photos import PhotoSet, load
from car_damage.photo.decoder import decode
from car_damage.photo.limits import Limits
from car_damage.stage import Progress, silent
from car_damage.stages.training.baselining import UnseenPhotos, baseline
from car_damage.stages.training.doubting import DoubtfulPhotos
from tests.corpus import encoded, picture
from tests.fakes import Time

CLASSES = ("minor", "moderate", "major")


def silver(folder: Path, photos: Sequence[tuple[str, str]]) -> pa.Table:
    """One row per (label, split), each with its own photo on disk."""
    rows = []
    for number, (label, split) in enumerate(photos):
        path = folder / f"{number}.jpg"
        path.write_bytes(encoded(picture(number, 260, 240), "JPEG"))
        rows.append({"path": str(path), "label": label, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "split": split})
    return pa.Table.from_pylist(rows)


def loaded(rows: pa.Table, progress: Progress = silent) -> AbstractContextManager[PhotoSet]:
    return load(rows, Folder(), Limits(), CLASSES, 2, progress, 1 << 40, Time())


@pytest.fixture
def rows(tmp_path: Path) -> pa.Table:
    return silver(tmp_path, [("major", "test"), ("minor", "train"), ("moderate", "train"), ("minor", "validation"), ("major", "train")])


def test_every_row_has_its_own_pixels_label_and_path(rows: pa.Table) -> None:
    by_path = {row["path"]: row for row in rows.to_pylist()}
    with loaded(rows) as photos:
        train = photos.part("train")
        assert len(train) == 3
        for pixels, label, sha256, path in zip(train.pixels, train.labels, train.sha256s, train.paths, strict=True):
            assert (CLASSES[label], sha256, "train") == (by_path[path]["label"], by_path[path]["sha256"], by_path[path]["split"])
            assert np.array_equal(pixels, decode(Path(path).read_bytes()).pixels)


def test_the_order_does_not_depend_on_the_tables(rows: pa.Table) -> None:
    with loaded(rows) as one, loaded(rows.take([4, 2, 0, 3, 1])) as other:
        assert one.part("train").sha256s == other.part("train").sha256s


def test_a_split_without_photos_is_empty(rows: pa.Table) -> None:
    with loaded(rows) as photos:
        assert photos.part("nowhere").pixels.shape == (0, 224, 224, 3)


def test_no_rows_at_all_are_no_photos(rows: pa.Table) -> None:
    with loaded(rows.slice(0, 0)) as photos:
        assert len(photos) == 0


@pytest.mark.parametrize("room", [0, 1, 3, 4])
def test_photos_without_room_on_disk_are_the_same_photos(
    rows: pa.Table, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    cache = room * 224 * 224 * 3 + 1
    with loaded(rows) as whole, load(rows, Folder(), Limits(), CLASSES, 2, silent, cache, Time()) as partly:
        assert [file.stat().st_size < cache + 1000 for file in scratch.rglob("*.npy")].count(True) == min(room, 1)
        assert len(whole) == len(partly) == 5
        for split in ("train", "validation", "test", "nowhere"):
            one, other = whole.part(split), partly.part(split)
            assert (one.sha256s, one.paths, one.labels.tolist()) == (other.sha256s, other.paths, other.labels.tolist())
            assert one.pixels.shape == other.pixels.shape
            assert np.array_equal(one.pixels[:], other.pixels[:])
            assert np.array_equal(one.pixels[np.arange(len(one))[::-1]], other.pixels[np.arange(len(other))[::-1]])
        assert np.array_equal(whole.part("train").pixels[1], partly.part("train").pixels[1])


def test_test_photos_are_the_first_to_go_without_room(rows: pa.Table, tmp_path: Path) -> None:
    with load(rows, Folder(), Limits(), CLASSES, 2, silent, 4 * 224 * 224 * 3, Time()) as photos:
        for path in tmp_path.glob("*.jpg"):
            path.unlink()
        assert photos.part("train").pixels[:].shape == (3, 224, 224, 3)
        assert photos.part("validation").pixels[:].shape == (1, 224, 224, 3)
        with pytest.raises(PhotoChanged, match=r"0\.jpg was validated but is gone"):
            photos.part("test").pixels[:]


def test_a_hiccup_in_the_middle_of_a_training_is_waited_out(rows: pa.Table) -> None:
    class Hiccup(Folder):
        failures = 2

        def read(self, path: str) -> bytes:
            if self.failures:
                self.failures -= 1
                raise Unavailable(f"{path} cannot be read")
            return super().read(path)

    files, clock = Hiccup(), Time()
    with load(rows.slice(0, 1), files, Limits(), CLASSES, 1, silent, 0, clock) as photos:
        assert photos.part("test").pixels[:].shape == (1, 224, 224, 3)
        assert clock.seconds == 1 + 5
        files.failures = 100
        with pytest.raises(Unavailable, match=r"0\.jpg"):
            photos.part("test").pixels[0]
        assert clock.seconds == 1 + 5 + 1 + 5 + 15


def test_photos_that_are_only_looked_at_are_waited_for_together_and_a_baseline_is_given_up_after_the_first_ones() -> None:
    class Away(Folder):
        def read(self, path: str) -> bytes:
            raise Unavailable(f"{path} cannot be read")

    sha256s = [f"{number:064x}" for number in range(602)]
    splits = ["train", "validation", *["test"] * 600]
    rows = pa.table(
        {"path": sha256s, "label": ["minor"] * 602, "sha256": sha256s, "split": splits, "width": [8] * 602, "height": [8] * 602}
    )
    clock = Time()
    with load(rows, Away(), Limits(), CLASSES, 2, silent, 0, clock, ahead=False) as photos:
        train, validation, test = (photos.part(split) for split in ("train", "validation", "test"))
        pixels, there = test.look(np.arange(100))
        assert (len(pixels), there.any(), clock.seconds, photos.lost) == (0, False, 1 + 5 + 15, {})
        answered = [UnseenPhotos("test", test, np.tile([0.5, 0.3, 0.2], (600, 1)))]
        with pytest.raises(Unavailable, match="none of the photos with answers"):
            baseline(train, answered, Answering(), rows, CLASSES)
        assert clock.seconds == 2 * (1 + 5 + 15)
        doubtful = DoubtfulPhotos(
            Doubts("now", (Doubt(sha256s[0], "0.jpg", "minor", {"minor": 0.1, "major": 0.9}),) * 3),
            [(test, 0), (validation, 0), (test, 1)],
        )
        assert doubtful.tiles() == []
        assert clock.seconds == 4 * (1 + 5 + 15)


def test_no_more_lies_on_disk_than_there_is_room_for(rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * 224 * 224 * 3))
    with loaded(rows) as photos:
        assert not isinstance(photos.part("train").pixels, np.ndarray)
        assert photos.part("train").pixels[:].shape == (3, 224, 224, 3)


def test_a_disk_that_fills_up_is_told_before_anything_is_written(rows: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(Unavailable, match=r"no room for 752,\d+ bytes .*No space left on device.*images\.cache_bytes"), loaded(rows):
        pass


def test_the_decoded_photos_are_gone_from_disk_afterwards(rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with loaded(rows):
        assert sum(file.stat().st_size for file in scratch.rglob("*.npy")) >= 5 * 224 * 224 * 3
    assert not list(scratch.iterdir())


def test_they_are_gone_after_an_error_too(rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(KeyError), loaded(rows):
        raise KeyError
    assert not list(scratch.iterdir())


def others(photos: PhotoSet, rows: pa.Table, number: int) -> None:
    """Check that all photos but one are there, with their own pixels."""
    there = [photos.part(split) for split in ("train", "validation", "test")]
    assert {path for part in there for path in part.paths} == set(rows["path"].to_pylist()) - {rows["path"][number].as_py()}
    for part in there:
        for pixels, path in zip(part.pixels[:], part.paths, strict=True):
            assert np.array_equal(pixels, decode(Path(path).read_bytes()).pixels)


@pytest.mark.parametrize("cache", [1 << 40, 2 * 224 * 224 * 3])
def test_a_photo_with_other_bytes_is_left_out_and_named(rows: pa.Table, tmp_path: Path, cache: int) -> None:
    (tmp_path / "2.jpg").write_bytes(encoded(picture(99), "JPEG"))
    with load(rows, Folder(), Limits(), CLASSES, 2, silent, cache, Time()) as photos:
        others(photos, rows, 2)
        ((path, error),) = photos.left_out.items()
    assert isinstance(error, PhotoChanged)
    assert (path, str(error).split(" than")[0]) == (str(tmp_path / "2.jpg"), f"{path} has other bytes")


def test_a_photo_that_is_gone_is_left_out_and_named(rows: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").unlink()
    with loaded(rows) as photos:
        others(photos, rows, 1)
        assert "1.jpg was validated but is gone" in str(photos.left_out[str(tmp_path / "1.jpg")])


def test_a_photo_that_cannot_be_read_is_tried_again_and_then_left_out(rows: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "1.jpg").mkdir()
    clock = Time()
    with load(rows, Folder(), Limits(), CLASSES, 2, silent, 1 << 40, clock) as photos:
        others(photos, rows, 1)
        assert isinstance(photos.left_out[str(tmp_path / "1.jpg")], Unavailable)
    assert clock.seconds == 1 + 5 + 15


def test_photos_that_the_limits_exclude_by_now_are_named(rows: pa.Table) -> None:
    with load(rows, Folder(), Limits(min_side=500), CLASSES, 2, silent, 1 << 40, Time()) as photos:
        assert len(photos) == 0
        assert {str(error).partition(" (too small")[0] for error in photos.left_out.values()} == {
            f"{path} was valid, but cannot be decoded" for path in rows["path"].to_pylist()
        }


def test_a_label_that_is_no_class_names_the_setting(rows: pa.Table) -> None:
    with (
        pytest.raises(SettingsError, match=r"labelled major, and labels\.classes is minor, moderate"),
        load(rows, Folder(), Limits(), CLASSES[:2], 2, silent, 1 << 40, Time()),
    ):
        pass


def test_progress_counts_up_to_all_photos(rows: pa.Table) -> None:
    told: list[tuple[str, int, int]] = []
    with loaded(rows, lambda step, done, total, _message="": told.append((step, done, total))):
        pass
    assert told[-1] == ("photos", 5, 5)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_checked_bytes_are_the_files_own(rows: pa.Table) -> None:
    row = rows.to_pylist()[0]
    assert read_checked(Folder(), row["path"], row["sha256"]) == Path(row["path"]).read_bytes()
