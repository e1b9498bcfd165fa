import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from car_damage.engines.folder import Folder
from car_damage.errors import PhotoChanged, SettingsError, Unavailable
from car_damage.images import Limits, decode
from car_damage.photos import PhotoSet, load, read_checked
from car_damage.pipeline import Progress, silent
from tests.corpus import encoded, picture

CLASSES = ("minor", "moderate", "major")


def silver(folder: Path, photos: Sequence[tuple[str, str]]) -> pa.Table:
    """Rows of (label, split), each with a photo of its own on disk."""
    rows = []
    for number, (label, split) in enumerate(photos):
        path = folder / f"{number}.jpg"
        path.write_bytes(encoded(picture(number, 260, 240), "JPEG"))
        rows.append({"path": str(path), "label": label, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "split": split})
    return pa.Table.from_pylist(rows)


def loaded(rows: pa.Table, progress: Progress = silent) -> PhotoSet:
    return load(rows, Folder(), Limits(), CLASSES, 2, progress)


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
    (tmp_path / "2.jpg").unlink()
    with pytest.raises(PhotoChanged):
        loaded(rows)
    assert not list(scratch.iterdir())


def test_a_photo_with_other_bytes_is_named(rows: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "3.jpg").write_bytes(encoded(picture(99), "JPEG"))
    with pytest.raises(PhotoChanged, match=r"3\.jpg has other bytes"):
        loaded(rows)


def test_a_photo_that_is_gone_is_named(rows: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(PhotoChanged, match=r"1\.jpg was validated but is gone"):
        loaded(rows)


def test_a_photo_that_cannot_be_read_may_be_readable_later(rows: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "1.jpg").mkdir()
    with pytest.raises(Unavailable, match=r"1\.jpg"):
        loaded(rows)


def test_a_photo_that_the_limits_exclude_by_now_is_named(rows: pa.Table) -> None:
    with pytest.raises(PhotoChanged, match=r"cannot be decoded any more \(too small"):
        load(rows, Folder(), Limits(min_side=500), CLASSES, 2, silent)


def test_a_label_that_is_no_class_names_the_setting(rows: pa.Table) -> None:
    with pytest.raises(SettingsError, match=r"labelled major, and labels\.classes is minor, moderate"):
        load(rows, Folder(), Limits(), CLASSES[:2], 2, silent)


def test_progress_counts_up_to_all_photos(rows: pa.Table) -> None:
    told: list[tuple[str, int, int]] = []
    with loaded(rows, lambda step, done, total, _message="": told.append((step, done, total))):
        pass
    assert told[-1] == ("photos", 5, 5)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_checked_bytes_are_the_files_own(rows: pa.Table) -> None:
    row = rows.to_pylist()[0]
    assert read_checked(Folder(), row["path"], row["sha256"]) == Path(row["path"]).read_bytes()
