"""The image and the Compose file, as far as they can be read without an engine; CI builds the image."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deployments.release import IN_THE_IMAGE
from deployments.stack import EVENTS, GLIBC

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deployments" / "containers"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
LINES = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]


def test_the_image_runs_as_nobody_s_root_by_a_command_that_a_worker_may_replace() -> None:
    assert [line for line in LINES if line.startswith("USER")] == ["USER car-damage"]
    assert LINES.index("USER car-damage") > max(number for number, line in enumerate(LINES) if line.startswith(("RUN", "COPY")))
    assert not [line for line in LINES if line.startswith("ENTRYPOINT")]
    assert f"WORKDIR {IN_THE_IMAGE}" in LINES
    assert "--constraint constraints.txt" in " ".join(LINES)


def test_the_image_gets_only_what_it_copies_and_names_no_registry() -> None:
    copied = [line.split()[1:-1] for line in LINES if line.startswith("COPY") and "--from" not in line]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name.split("/")[0] for names in copied for name in names} == kept
    assert [name for name in kept if not (ROOT / name).exists()] == []
    images = re.findall(r"^(?:ARG BASE=|FROM )(\S+)", "\n".join(LINES), re.MULTILINE)
    images += [one["image"] for one in COMPOSE["services"].values()]
    assert [image for image in images if "/" in image or re.search(r"\w\.\w+:?/", image)] == []


def test_every_password_is_asked_for_and_every_service_that_stays_says_whether_it_is_well() -> None:
    services = COMPOSE["services"]
    given = {f"{name} {key}": value for name, one in services.items() for key, value in one.get("environment", {}).items()}
    secret = {name: value for name, value in given.items() if re.search(r"PASSWORD|AUTH_STRING", name)}
    assert len(secret) == 6
    assert [name for name, value in secret.items() if not re.fullmatch(r"\$\{\w+:\?[^}]+\}", value)] == []
    assert [name for name, one in services.items() if "healthcheck" not in one] == ["bootstrap"]
    assert [port for one in services.values() for port in one.get("ports", ()) if not port.startswith("127.0.0.1:")] == []
    mounted = {volume.partition(":")[0] for one in services.values() for volume in one["volumes"]}
    assert {name for name in mounted if not name.startswith("$")} == set(COMPOSE["volumes"])


def test_every_prefect_server_gives_back_the_memory_that_it_has_freed_and_repeats_no_pictures() -> None:
    wanted = EVENTS | GLIBC
    assert wanted.items() <= COMPOSE["services"]["server"]["environment"].items()
    lines = (ROOT / "docs" / "shared-server.md").read_text().splitlines()
    assert {f"{name}={value}" for name, value in wanted.items()} <= set(lines)


def test_a_worker_imports_only_what_its_extra_brings() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["service"]]
    brought = {canonicalize_name(Requirement(one).name) for one in declared}
    further = (Requirement(one) for name in brought for one in requires(name) or ())
    brought |= {canonicalize_name(one.name) for one in further if one.marker is None or one.marker.evaluate({"extra": ""})}
    providers = packages_distributions()
    lacking = {
        f"{path.relative_to(ROOT)}: {name}"
        for floor in ("tasks", "flows", "deployments")
        for path in (ROOT / floor).rglob("*.py")
        for name in _imported(ast.parse(path.read_text()).body)
        if name not in sys.stdlib_module_names and not brought & {canonicalize_name(one) for one in providers.get(name, ())}
    }
    ours = re.compile(r": (car_damage|tasks|flows|deployments)$")
    assert sorted(one for one in lacking if not ours.search(one)) == []


def test_make_up_starts_no_worker_of_another_type(tmp_path: Path) -> None:
    given = {"CAR_DAMAGE_HOME": str(tmp_path), "CAR_DAMAGE_WORKERS__POOL": "docker"}
    command = [sys.executable, "-m", "deployments", "up"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert 'workers.pool is docker: set workers.pool = "process"' in done.stderr


def _imported(body: list[ast.stmt]) -> set[str]:
    """First parts of the names of the modules that are imported when a module is."""
    names = [alias.name for one in body if isinstance(one, ast.Import) for alias in one.names]
    names += [one.module for one in body if isinstance(one, ast.ImportFrom) and one.module]
    return {name.partition(".")[0] for name in names}
