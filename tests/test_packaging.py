"""The wheel that a cluster installs: its contents, its dependencies, and what works without the extras."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], check=True, capture_output=True, timeout=120
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment that has only the wheel's base install."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    # Python compiles the few modules that these tests import.
    command = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--constraint",
        ROOT / "constraints.txt",
        wheel,
    ]
    subprocess.run(command, check=True, timeout=280)
    return folder / "bin"


def run(clean: Path, *command: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CAR_DAMAGE_", "PYTHON"))}
    done = subprocess.run(  # noqa: PLW1510 - the assertion shows its output
        [clean / command[0], *command[1:]], capture_output=True, text=True, timeout=120, env=environment, cwd=clean
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_library_and_no_other_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"car_damage", next(name for name in names if ".dist-info" in name).split("/")[0]}
    assert "car_damage/server/api/app.py" in names
    page = {f"car_damage/server/api/page_files/{path.name}" for path in (ROOT / "car_damage" / "server" / "api" / "page_files").iterdir()}
    assert "car_damage/server/api/page_files/index.html" in page
    assert page - set(names) == set()
    assert not [name for name in names if "__pycache__" in name]


def test_neither_prefect_nor_tensorflow_comes_along(clean: Path) -> None:
    listed = json.loads(run(clean, "python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"))
    installed = {package["name"].lower().replace("_", "-") for package in listed}
    assert {"pillow", "pi-heif", "numpy", "pyarrow", "pydantic-settings", "databricks-sdk", "car-damage"} <= installed
    unwanted = {
        "prefect",
        "prefect-databricks",
        "tensorflow",
        "keras",
        "mlflow",
        "mlflow-skinny",
        "pyspark",
        "delta-spark",
        "deltalake",
        "fastapi",
    }
    assert not installed & unwanted


def test_the_code_of_validate_and_silver_imports_without_the_extras(clean: Path) -> None:
    run(
        clean,
        "python",
        "-c",
        "import car_damage.stages.validate, car_damage.stages.silver, car_damage.platform, car_damage.adapters.tables.delta_rs",
    )


def test_help_answers_quickly_because_heavy_imports_are_lazy(clean: Path) -> None:
    assert "validate" in run(clean, "car-damage", "--help")
    modules = run(clean, "python", "-c", "import sys, car_damage.cli; print(*sorted(sys.modules))").split()
    assert not {"tensorflow", "mlflow", "databricks", "pyarrow", "PIL"} & {module.split(".")[0] for module in modules}


def test_validate_works_with_the_base_alone(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "minor").mkdir()
    (tmp_path / "minor" / "empty.jpg").touch()
    verdict = json.loads(run(clean, "car-damage", "validate", "--json", tmp_path))
    assert (verdict["verdict"], verdict["reason"]) == ("rejected", "empty")


def test_every_version_in_the_constraints_is_exact_and_no_address_is_recorded() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 100
    assert all(line.count("==") == 1 and "://" not in line and "@" not in line for line in lines)
