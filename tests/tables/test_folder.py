import errno
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from car_damage.adapters import reading
from car_damage.adapters.folder import Folder
from car_damage.errors import SettingsError, Unavailable


def write(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(root):
    return sorted(file.path.removeprefix(f"{root}/") for file in Folder().list(str(root)))


def test_every_file_below_is_listed_with_size_and_whole_milliseconds(tmp_path):
    path = write(tmp_path / "a" / "b" / "c.jpg", b"12345")
    os.utime(path, ns=(0, 1_700_000_000_123_999_999))
    (file,) = Folder().list(f"{tmp_path}/")
    assert (file.path, file.size) == (str(path), 5)
    assert file.modified == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)


def test_a_time_before_1970_is_floored_too(tmp_path):
    os.utime(write(tmp_path / "old.jpg"), ns=(0, -1_500_001))
    (file,) = Folder().list(str(tmp_path))
    assert file.modified == datetime(1969, 12, 31, 23, 59, 59, 998_000, tzinfo=UTC)


def test_names_that_start_with_a_dot_or_an_underscore_are_skipped_with_all_below(tmp_path):
    for name in ("_a.jpg", ".b.jpg", "_c/d.jpg", ".e/f.jpg", "g/_h/i.jpg", "j_k.jpg"):
        write(tmp_path / name)
    assert names(tmp_path) == ["j_k.jpg"]


def test_what_a_killed_writer_has_begun_is_listed_as_a_draft_and_goes_with_a_later_write(tmp_path):
    begun = [write(tmp_path / folder / f".photo.jpg.{letter * 32}") for folder, letter in (("a", "b"), ("a", "c"), ("d", "e"))]
    other = write(tmp_path / "a" / ".photo.jpg.of somebody else")
    for path in (begun[0], begun[2], other):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert [draft.path for draft in Folder().drafts(str(tmp_path))] == [str(path) for path in begun]
    assert list(Folder().drafts(str(tmp_path / "nowhere"))) == []
    Folder().write_once(str(tmp_path / "a" / "photo.jpg"), b"photo")
    assert [path.exists() for path in (*begun, other)] == [False, True, True, True]


def test_links_are_followed_but_never_round_in_circles(tmp_path):
    write(tmp_path / "outside" / "a.jpg")
    root = tmp_path / "landing"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "one.jpg").symlink_to(tmp_path / "outside" / "a.jpg")
    (tmp_path / "outside" / "back").symlink_to(root)
    assert names(root) == ["link/a.jpg", "one.jpg"]


def test_a_link_that_leads_nowhere_is_listed_and_cannot_be_read(tmp_path):
    for name, target in (("gone.jpg", "nowhere"), ("self.jpg", "self.jpg")):
        (tmp_path / name).symlink_to(target)
    assert names(tmp_path) == ["gone.jpg", "self.jpg"]
    for name in names(tmp_path):
        with pytest.raises(Unavailable, match=name):
            Folder().read(str(tmp_path / name))


def test_pipes_and_sockets_are_no_files_and_reading_one_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
        assert names(tmp_path) == []
    with pytest.raises(Unavailable, match="not a regular file"):
        Folder().read(str(tmp_path / "pipe.jpg"))


def test_a_name_that_is_not_utf8_is_listed_as_text_and_can_be_read_by_it(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"bytes")
    (listed,) = Folder().list(str(tmp_path))
    assert listed.path == f"{tmp_path}/caf\\xe9.jpg"
    assert Folder().read(listed.path) == b"bytes"


def test_a_folder_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(SettingsError, match=r"landing\.folder"):
        list(Folder().list(str(tmp_path / "nothing")))


def test_a_folder_that_cannot_be_listed_makes_the_whole_listing_unavailable(tmp_path, monkeypatch):
    write(tmp_path / "a" / "a.jpg")
    write(tmp_path / "b" / "b.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Unavailable, match="incomplete listing"):
        list(Folder().list(str(tmp_path)))


def test_a_file_is_written_whole_and_only_once(tmp_path):
    path = str(tmp_path / "new" / "report.json")
    Folder().write_once(path, b"first")
    with pytest.raises(FileExistsError):
        Folder().write_once(path, b"second")
    assert Folder().read(path) == b"first"
    assert [left.name for left in (tmp_path / "new").iterdir()] == ["report.json"]


def test_storage_without_hard_links_is_written_to_once_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = str(tmp_path / "report.json")
    Folder().write_once(path, b"first")
    with pytest.raises(FileExistsError):
        Folder().write_once(path, b"second")
    assert Folder().read(path) == b"first"
    assert [left.name for left in tmp_path.iterdir()] == ["report.json"]


class Killed(BaseException):
    """The process ends."""


def test_a_file_that_is_replaced_is_whole_at_every_moment(tmp_path, monkeypatch):
    path = tmp_path / "doubts.json"
    for content in (b"first", b"second"):
        Folder().replace(str(path), content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["doubts.json"]

    def half(part, data):
        with part.open("wb") as file:
            file.write(data[:3])
        raise Killed

    monkeypatch.setattr(Path, "write_bytes", half)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # a kill leaves what was begun
    with pytest.raises(Killed):
        Folder().replace(str(path), b"third")
    assert (path.read_bytes(), names(tmp_path), len(list(tmp_path.iterdir()))) == (b"second", ["doubts.json"], 2)


def test_storage_without_renaming_is_written_to_in_place(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(Path, "replace", refuse)
    for content in (b"first", b"second"):
        Folder().replace(str(tmp_path / "doubts.json"), content)
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [("doubts.json", b"second")]


def each(root, work, workers=2, max_bytes=1 << 20, items=None):
    items = [(file.path, file.size) for file in Folder().list(str(root))] if items is None else items
    return reading.each(Folder(), items, work, workers, max_bytes, lambda path, size: f"oversize {size}")


def test_each_gives_results_oversize_files_and_unreadable_files_their_own_kind_of_row(tmp_path):
    for name, data in (("a.jpg", b"12"), ("big.jpg", b"1" * 100)):
        write(tmp_path / name, data)
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    results = {
        path.rpartition("/")[2]: (result, why is not None) for path, result, why in each(tmp_path, lambda _, data: len(data), max_bytes=99)
    }
    assert results == {"a.jpg": (2, False), "big.jpg": ("oversize 100", False), "gone.jpg": (None, True)}


def test_each_holds_no_more_files_in_memory_than_it_has_threads(tmp_path):
    for number in range(60):
        write(tmp_path / f"{number}.jpg")
    lock, now, most = threading.Lock(), 0, 0

    def work(_path, _data):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        os.sched_yield()
        with lock:
            now -= 1
        return True

    assert sum(1 for _ in each(tmp_path, work, workers=3)) == 60
    assert 1 <= most <= 3


def test_an_error_in_the_work_is_raised_and_the_threads_end(tmp_path):
    for number in range(200):
        write(tmp_path / f"{number}.jpg")
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError):
        list(each(tmp_path, lambda _, data: 1 // (len(data) - 1)))
    assert set(threading.enumerate()) - before == set()


def test_a_reader_that_stops_early_ends_the_threads(tmp_path):
    for number in range(200):
        write(tmp_path / f"{number}.jpg")
    before = set(threading.enumerate())
    read = []
    results = each(tmp_path, lambda path, _: read.append(path))
    next(results)
    results.close()
    assert set(threading.enumerate()) - before == set()
    assert len(read) < 100


def test_an_error_of_the_listing_reaches_the_reader(tmp_path):
    def items():
        yield str(write(tmp_path / "a.jpg")), 1
        raise Unavailable("the rest cannot be listed")

    with pytest.raises(Unavailable, match="the rest"):
        list(each(tmp_path, lambda *_: 1, items=items()))


def test_a_folder_is_removed_with_all_below_and_a_link_without_what_it_leads_to(tmp_path):
    write(tmp_path / "run" / "train" / "a.json")
    write(tmp_path / "run" / ".part")
    other = write(tmp_path / "other" / "b.json")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "other")
    Folder().remove(str(tmp_path / "run"))
    Folder().remove(str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    assert other.exists()
    Folder().remove(str(other))
    assert not other.exists()
