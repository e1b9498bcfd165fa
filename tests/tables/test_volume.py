"""Reads and writes a volume with databricks-sdk over a real socket. The server answers as the Files API is documented."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

from car_damage.adapters.databricks.volume import Volume
from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.data.doorbell import fingerprint
from car_damage.data.photos import ledger
from car_damage.errors import CarDamageError, FileMissing, RequestRefused, SettingsError, Unavailable
from car_damage.pipeline import SilverRequest, ValidateRequest
from car_damage.platform import Target
from car_damage.ports import File
from car_damage.settings import Landing, Settings
from car_damage.stage import silent
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.validate import STAGE as VALIDATE
from tests.tables.conftest import TablesOnly

LANDING = "/Volumes/insurance_uc/landing/raw_data/photos"
MODIFIED = 1_700_000_000_123
PAGE = 2


class FilesApi:
    """The files of a volume, and the requests it refuses: path -> status and error code."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []

    def put(self, name: str, data: bytes = b"photo") -> None:
        self.files[f"{LANDING}/{name}"] = data

    def entries(self, folder: str) -> list[dict[str, Any]]:
        below = [path.removeprefix(f"{folder}/") for path in self.files if path.startswith(f"{folder}/")]
        names = sorted({path.partition("/")[0] for path in below})
        return [self.entry(f"{folder}/{name}") for name in names]

    def entry(self, path: str) -> dict[str, Any]:
        told: dict[str, Any] = {"path": path, "name": path.rpartition("/")[2], "is_directory": path not in self.files}
        return told if told["is_directory"] else told | {"file_size": len(self.files[path]), "last_modified": MODIFIED}


@pytest.fixture
def api() -> FilesApi:
    return FilesApi()


@pytest.fixture
def host(api: FilesApi) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            address = urlsplit(self.path)
            place, query = unquote(address.path), parse_qs(address.query)
            kind, _, path = place.removeprefix("/api/2.0/fs/").partition("/")
            path = query["path"][0] if kind == "create-download-url" else f"/{path}"
            api.asked.append(f"{self.command} {kind}")
            status, answer = self._refusal(path) or self._done(kind, path, query, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _refusal(self, path: str) -> tuple[int, Any] | None:
            found = api.refusals.get(path)
            return found and (found[0], {"error_code": found[1], "message": "told so"})

        def _done(self, kind: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
            absent = 404, {"error_code": "NOT_FOUND", "message": f"{path} does not exist"}
            if kind == "directories":
                if not (entries := api.entries(path)):
                    return absent
                start = int(query.get("page_token", ["0"])[0])
                more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(entries) else {}
                return 200, {"contents": entries[start : start + PAGE], **more}
            if self.command == "PUT":
                if path in api.files and query.get("overwrite") != ["true"]:
                    return 409, {"error_code": "ALREADY_EXISTS", "message": "it is there"}
                api.files[path] = body
                return 204, b""
            if kind == "create-download-url":
                return 200, {"url": f"http://{self.headers['Host']}/api/2.0/fs/files{path}", "headers": []}
            return (200, api.files[path]) if path in api.files else absent

        do_GET = do_POST = do_PUT = do_HEAD = _answer  # noqa: N815 - the base class calls these names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def volume(host: str) -> Volume:
    return Volume(lambda: WorkspaceClient(config=Config(host=host, token="t", auth_type="pat", retry_timeout_seconds=1)))  # noqa: S106


def test_every_page_of_every_folder_is_listed_but_hidden_ones(volume: Volume, api: FilesApi) -> None:
    shown = {"minor/a.jpg", "minor/b c%20.jpg", "minor/deep/er/c.jpg", "major/d.jpg", "e.jpg"}
    for name in shown | {"_tmp/x.jpg", "minor/.hidden.jpg", "minor/_part.jpg"}:
        api.put(name)
    moment = datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    assert set(volume.list(f"{LANDING}/")) == {File(f"{LANDING}/{name}", 5, moment) for name in shown}


def test_what_killed_writers_of_a_mounted_volume_have_begun_is_listed_as_drafts(volume: Volume, api: FilesApi) -> None:
    begun = f"minor/.a.jpg.{'b' * 32}"
    for name in (begun, "minor/a.jpg", "minor/.hidden.jpg"):
        api.put(name)
    assert [draft.path for draft in volume.drafts(f"{LANDING}/")] == [f"{LANDING}/{begun}"]
    assert list(volume.drafts("/Volumes/main/default/nowhere")) == []


def test_a_photo_is_read_whole(volume: Volume, api: FilesApi) -> None:
    api.put("minor/a b.jpg", bytes(range(256)) * 9000)
    assert volume.read(f"{LANDING}/minor/a b.jpg") == bytes(range(256)) * 9000


def test_a_photo_that_is_gone_is_told_from_one_that_cannot_be_read_now(volume: Volume, api: FilesApi) -> None:
    with pytest.raises(FileMissing, match=r"photos/gone\.jpg does not exist"):
        volume.read(f"{LANDING}/gone.jpg")
    api.put("a.jpg")
    api.refusals[f"{LANDING}/a.jpg"] = (500, "INTERNAL_ERROR")
    with pytest.raises(Unavailable, match="temporarily unavailable") as refused:
        volume.read(f"{LANDING}/a.jpg")
    assert not isinstance(refused.value, FileMissing)


def test_a_file_is_written_once(volume: Volume, api: FilesApi) -> None:
    volume.write_once(f"{LANDING}/new.json", b"{}")
    assert api.files[f"{LANDING}/new.json"] == b"{}"
    with pytest.raises(FileExistsError):
        volume.write_once(f"{LANDING}/new.json", b"other")
    assert api.files[f"{LANDING}/new.json"] == b"{}"


def test_a_landing_folder_that_is_not_there_says_what_to_set(volume: Volume) -> None:
    with pytest.raises(SettingsError, match=r"landing\.folder"):
        list(volume.list(LANDING))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "UNAUTHENTICATED", RequestRefused),
        (403, "PERMISSION_DENIED", RequestRefused),
        (400, "INVALID_PARAMETER_VALUE", RequestRefused),
        (404, "NOT_FOUND", Unavailable),
        (500, "INTERNAL_ERROR", Unavailable),
        (503, "TEMPORARILY_UNAVAILABLE", Unavailable),
    ],
)
def test_a_folder_below_that_cannot_be_listed_makes_the_listing_none(
    volume: Volume, api: FilesApi, status: int, code: str, expected: type[CarDamageError]
) -> None:
    api.put("major/a.jpg")
    api.put("minor/b.jpg")
    api.refusals[f"{LANDING}/minor"] = (status, code)
    with pytest.raises(expected, match="photos/minor"):
        list(volume.list(LANDING))


def test_a_workspace_that_does_not_answer_may_do_so_later() -> None:
    nobody = Config(host="http://127.0.0.1:9", token="t", auth_type="pat", retry_timeout_seconds=1)  # noqa: S106
    with pytest.raises(Unavailable, match="does not answer"):
        list(Volume(lambda: WorkspaceClient(config=nobody)).list(LANDING))


def test_without_credentials_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RequestRefused, match="credentials"):
        list(Volume().list(LANDING))


def test_a_file_of_this_machine_is_read_as_ever(volume: Volume, api: FilesApi, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"path,label\n")
    assert volume.read(f"{tmp_path}/labels.csv") == b"path,label\n"
    assert [file.path for file in volume.list(str(tmp_path))] == [f"{tmp_path}/labels.csv"]
    assert api.asked == []


def test_photos_of_a_volume_are_validated_and_divided_without_a_copy_on_disk(
    volume: Volume, api: FilesApi, photo: Callable[..., bytes], tmp_path: Path
) -> None:
    for number in range(4):
        api.put(f"minor/{number}.jpg", photo(number))
    api.put("major/empty.jpg", b"")
    settings = Settings(home=tmp_path / "home", landing=Landing(folder=LANDING))
    platform = TablesOnly(settings, volume, DeltaRs(settings.home / "tables", volume, settings.images))
    validated = VALIDATE.work(ValidateRequest("flow"), platform, silent)
    assert (validated.accepted, validated.rejected, validated.unreadable) == (4, {"empty": 1}, ())
    silver = SILVER.work(SilverRequest("flow", validated.bronze_version), platform, silent)
    assert silver.classes["minor"]["train"] + silver.classes["minor"]["validation"] + silver.classes["minor"]["test"] == 4
    again = VALIDATE.work(ValidateRequest("flow"), platform, silent)
    assert (again.accepted, again.landing_fingerprint) == (0, validated.landing_fingerprint)


def test_the_doorbell_hears_what_validate_would_list_on_a_volume_that_is_not_mounted_here(
    volume: Volume, api: FilesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(Settings(landing=Landing(folder=LANDING)))
    assert isinstance(target.files, Volume)
    assert isinstance(Target(Settings(landing=Landing(folder="/photos"))).files, Folder)
    for section, name in (("answers", "corrections"), ("answers", "keep_for_review"), ("monitoring", "log_folder")):
        assert isinstance(Target(Settings(**{section: {name: LANDING}})).files, Volume), name
    monkeypatch.setattr(target, "files", volume)
    api.put("minor/a.jpg")
    before = fingerprint(target)
    listed = ledger.listing([(f"{LANDING}/minor/a.jpg", 5, MODIFIED)])
    assert (
        before == ledger.landing_fingerprint(LANDING, listed) == target.tables.compare_landing(LANDING, "lab.bronze.none", "").fingerprint
    )
    api.put("minor/b.jpg")
    assert fingerprint(target) != before
