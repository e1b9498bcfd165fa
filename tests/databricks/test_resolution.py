"""The jobs' packages agree with those of serverless compute, and a model's packages can be installed where it is served.

pip's resolver decides, for a platform like theirs, and installs nothing. It evaluates markers with the Python that runs it.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from car_damage.model.served import package
from deployments.databricks import bundle, needs

ENVIRONMENT = Path(__file__).with_name("serverless-5.txt")
HELD = dict(line.split("==") for line in ENVIRONMENT.read_text().splitlines() if "==" in line)
"""Package name -> version in the environment."""
# Ubuntu 24.04 has glibc 2.39, which also runs wheels built for an older glibc.
PLATFORMS = [f"--platform=manylinux_2_{glibc}_x86_64" for glibc in (28, 27, 26, 24, 17, 12, 5)] + ["--platform=manylinux2014_x86_64"]
LIKE_THERE = ["--python-version=3.12", "--implementation=cp", "--only-binary=:all:", *PLATFORMS]

pytestmark = pytest.mark.slow


def pip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


def resolved(folder: Path, *arguments: str) -> dict[str, str]:
    """Package name -> version that pip would install."""
    report = folder / "report.json"
    done = pip(*LIKE_THERE, f"--target={folder / 'target'}", f"--report={report}", *arguments)
    assert done.returncode == 0, done.stderr
    installed = [one["metadata"] for one in json.loads(report.read_text())["install"]]
    return {one["name"].lower().replace("_", "-"): one["version"] for one in installed}


@pytest.fixture(scope="module", autouse=True)
def _index() -> None:
    """Skip these tests only where no package index can be reached."""
    assert importlib.util.find_spec("pip")
    probe = pip("--no-cache-dir", "--timeout=10", "--retries=1", "--no-deps", "annotated-types==0.7.0")
    if probe.returncode:
        pytest.skip(f"no package index is reachable: {probe.stderr.strip()[-200:]}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(needs.ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    return str(wheel)


@pytest.fixture(scope="module")
def train(wheel: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Packages that the training job adds to its environment or replaces there."""
    return resolved(tmp_path_factory.mktemp("train"), f"--constraint={ENVIRONMENT}", *dependencies(wheel, "car-damage-train"))


def dependencies(wheel: str, job: str) -> list[str]:
    [environment] = bundle.jobs({"wheel": wheel})[job]["environments"]
    assert environment["spec"]["environment_version"] == "5"
    return list(environment["spec"]["dependencies"])


def test_the_ingest_job_leaves_the_environment_as_it_is(wheel: str, tmp_path: Path) -> None:
    there = resolved(tmp_path, f"--constraint={ENVIRONMENT}", *dependencies(wheel, "car-damage-ingest"))
    assert there["numpy"] == HELD["numpy"]
    assert {"car-damage", "pillow", "pi-heif", "pyarrow"} <= there.keys()
    assert not {"tensorflow", "mlflow", "pyspark", "prefect"} & there.keys()


def test_the_train_job_leaves_the_environment_as_it_is(train: dict[str, str]) -> None:
    assert {name: train[name] for name in ("protobuf", "numpy", "pandas")} == {name: HELD[name] for name in ("protobuf", "numpy", "pandas")}
    assert train["tensorflow"].startswith("2.20.")
    assert "pyspark" not in train


def test_the_score_job_needs_what_the_train_job_needs(wheel: str) -> None:
    assert dependencies(wheel, "car-damage-score") == dependencies(wheel, "car-damage-train")


def test_the_monitor_job_leaves_the_environment_as_it_is_and_needs_no_tensorflow(wheel: str, tmp_path: Path) -> None:
    there = resolved(tmp_path, f"--constraint={ENVIRONMENT}", *dependencies(wheel, "car-damage-monitor"))
    assert {name: there[name] for name in ("protobuf", "numpy", "pandas")} == {name: HELD[name] for name in ("protobuf", "numpy", "pandas")}
    assert {"mlflow", "scipy", "matplotlib"} <= there.keys()
    assert not {"tensorflow", "pyspark", "prefect"} & there.keys()


@pytest.mark.parametrize("later", ["tensorflow==2.21.0", "onnx==1.23.2"])
def test_later_versions_would_not_leave_the_environment_as_it_is(tmp_path: Path, later: str) -> None:
    done = pip(*LIKE_THERE, f"--target={tmp_path}", f"--constraint={ENVIRONMENT}", later)
    assert done.returncode
    assert f"protobuf=={HELD['protobuf']}" in done.stderr + done.stdout


def test_what_a_model_of_the_train_job_needs_can_be_installed_where_it_is_served(train: dict[str, str], tmp_path: Path) -> None:
    """The serving container has only the Python version with which the model was logged."""
    named = [line.partition("==")[0] for line in package.requirements(onnx=True)]
    exact = [f"{name}=={train[name]}" for name in named]
    there = resolved(tmp_path, *exact)
    assert {name: there[name] for name in named} == {name: train[name] for name in named}
    assert "car-damage" not in there
    assert "tensorflow" not in there


@pytest.mark.parametrize("onnx", [True, False])
def test_a_model_names_exact_versions_and_nothing_of_ours(onnx: bool) -> None:
    requirements = package.requirements(onnx=onnx)
    assert all(version and name not in {"car-damage", "car_damage"} for name, _, version in (line.partition("==") for line in requirements))
