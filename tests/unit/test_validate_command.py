"""`car-damage validate`, and the behaviour that all commands share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from car_damage import __version__
from car_damage.cli import app
from tests import corpus

JPEG, PNG = (corpus.encoded(corpus.picture(), format_) for format_ in ("JPEG", "PNG"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(result: Result) -> dict[str, dict[str, object]]:
    """Verdicts by file name."""
    return {Path(line["path"]).name: line for line in map(json.loads, result.stdout.splitlines())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, data in {
        "minor/good.jpg": JPEG,
        "severe/really_a_png.jpg": PNG,
        "minor/cut.jpg": JPEG[:3000],
        "minor/note.jpg": b"no photo",
        "unlabelled.jpg": JPEG,
        "other/strange.jpg": JPEG,
        "minor/.hidden.jpg": JPEG,
        "_tmp/upload.jpg": JPEG,
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    return tmp_path


def test_json_has_one_line_a_file_with_all_that_is_known_of_it(folder: Path) -> None:
    result = run("validate", folder, "--json")
    assert result.exit_code == 0
    found = lines(result)
    assert {name: (line["verdict"], line["reason"], line["label"]) for name, line in found.items()} == {
        "good.jpg": ("valid", None, "minor"),
        "really_a_png.jpg": ("valid", None, "major"),
        "cut.jpg": ("rejected", "truncated", "minor"),
        "note.jpg": ("rejected", "not an image", "minor"),
        "unlabelled.jpg": ("rejected", "no label", None),
        "strange.jpg": ("rejected", "unknown label", None),
    }
    assert (found["really_a_png.jpg"]["format"], found["good.jpg"]["width"], found["good.jpg"]["height"]) == ("PNG", 320, 240)
    assert len(str(found["cut.jpg"]["sha256"])) == 64


def test_labels_can_be_left_out_of_it(folder: Path) -> None:
    found = lines(run("validate", folder, "--json", "--no-labels"))
    assert {name for name, line in found.items() if line["verdict"] == "rejected"} == {"cut.jpg", "note.jpg"}


def test_a_folder_that_is_spelt_in_a_roundabout_way_is_not_taken_for_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "major").mkdir()
    (tmp_path / "minor").mkdir()
    (tmp_path / "major/photo.jpg").write_bytes(JPEG)
    monkeypatch.chdir(tmp_path / "minor")
    assert lines(run("validate", "../major", "--json"))["photo.jpg"]["reason"] == "no label"


def test_the_table_names_rejected_files_and_counts_reasons(folder: Path) -> None:
    result = run("validate", folder)
    assert result.exit_code == 0
    assert "cut.jpg" in result.stdout
    assert "good.jpg" not in result.stdout
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["rejected:", "truncated", "1"] in words
    assert ["valid", "2"] in words
    assert ["all", "6"] in words
    assert result.output.splitlines()[-1].startswith("Duplicates and photos with two classes are not reported here")


def test_a_folder_without_photos_has_a_summary_too(tmp_path: Path) -> None:
    result = run("validate", tmp_path)
    assert result.exit_code == 0
    assert ["all", "0"] in [line.split() for line in result.stdout.splitlines()]


def test_a_file_that_cannot_be_read_is_reported_and_fails_the_command(folder: Path) -> None:
    (folder / "minor/gone.jpg").symlink_to(folder / "nowhere")
    result = run("validate", folder, "--json")
    assert result.exit_code == 1
    assert lines(result)["gone.jpg"]["verdict"] == "unreadable"
    assert lines(result)["good.jpg"]["verdict"] == "valid"
    assert "1 of 7 files could not be read" in " ".join(result.stderr.split())


def test_a_file_above_the_limit_of_bytes_is_rejected_without_being_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_IMAGES__MAX_BYTES", str(1 << 16))
    with (folder / "minor/huge.jpg").open("wb") as huge:
        huge.truncate(1 << 40)
    found = lines(run("validate", folder, "--json"))["huge.jpg"]
    assert (found["verdict"], found["reason"], found["sha256"]) == ("rejected", "too many bytes", None)


def test_file_names_that_are_markup_control_characters_or_not_utf8_are_shown_as_text(tmp_path: Path) -> None:
    for name in (b"[red]x[bold].jpg", b"\x1b[31mred.jpg", b"caf\xe9.jpg"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"no photo")
    shown = CliRunner().invoke(app, ["validate", str(tmp_path)], env={"COLUMNS": "400"})
    assert shown.exit_code == 0
    assert "[red]x[bold].jpg" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "caf\\xe9.jpg" in shown.stdout
    assert len(lines(run("validate", tmp_path, "--json"))) == 3


def test_a_table_of_labels_is_held_against_the_paths_below_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = folder / "_labels.csv"
    table.write_text("path,label\nunlabelled.jpg,major\n")
    monkeypatch.setenv("CAR_DAMAGE_LABELS__SOURCE", "table")
    monkeypatch.setenv("CAR_DAMAGE_LABELS__TABLE", str(table))
    found = lines(run("validate", folder, "--json"))
    assert (found["unlabelled.jpg"]["label"], found["good.jpg"]["reason"]) == ("major", "no label")


def test_an_error_of_ours_is_one_line_and_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("validate", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "nowhere" in result.stderr
    monkeypatch.setenv("CAR_DAMAGE_IMAGES__MIN_SIZE", "3")
    assert "did you mean CAR_DAMAGE_IMAGES__MIN_SIDE?" in run("validate", tmp_path).stderr


def test_the_version_is_told() -> None:
    assert run("--version").stdout.strip() == f"car-damage {__version__}"


def test_validate_needs_the_base_install_alone(folder: Path) -> None:
    """Makes the modules of every extra impossible to import. Another test checks the wheel itself."""
    program = (
        "import sys\n"
        "for name in ('deltalake', 'mlflow', 'tensorflow', 'keras', 'prefect', 'matplotlib', 'fastapi', 'httpx', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        "from car_damage.cli import app\n"
        "app(['validate', '--json', sys.argv[1]])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from car_damage.cli import app\n"
        "try:\n"
        "    app(['--help'])\n"
        "finally:\n"
        "    heavy = {'numpy', 'PIL', 'pyarrow', 'pydantic', 'mlflow', 'tensorflow', 'databricks'} & set(sys.modules)\n"
        "    print(sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert "validate" in done.stdout
    assert done.stderr.strip() == "[]"
