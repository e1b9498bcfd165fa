"""The work pool of each type: what its template gives to a run, and what a person may change in it."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.workers.base import BaseJobConfiguration
from pydantic import ConfigDict

from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments import deploy, work_pool
from deployments.items import bootstrap
from deployments.release import IN_THE_IMAGE, ROOT, release

pytestmark = pytest.mark.usefixtures("server")
NAME = "elsewhere"


@pytest.fixture(autouse=True)
def _own_pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A pool with another name than that of the other tests, and a settings file."""
    monkeypatch.setattr(work_pool, "WORK_POOL", NAME)
    (tmp_path / "prod.toml").touch()
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", str(tmp_path / "prod.toml"))
    yield
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_work_pool(NAME)


def settings(kind: str, tmp_path: Path, **more: Any) -> Settings:
    return Settings(home=tmp_path / "home", landing={"folder": "/data/photos"}, workers={"pool": kind}, **more)


def made(given: Settings) -> WorkPool:
    """The pool after bootstrap."""
    bootstrap([work_pool.item(given)])
    return read()


def read() -> WorkPool:
    with get_client(sync_client=True) as client:
        return client.read_work_pool(NAME)


def change(template: dict[str, Any]) -> None:
    with get_client(sync_client=True) as client:
        client.update_work_pool(NAME, WorkPoolUpdate(base_job_template=template))


class Anything(BaseJobConfiguration):
    """A job of any type of work pool, as its worker fills the template in."""

    model_config = ConfigDict(extra="allow")


def job(pool: WorkPool) -> Any:
    variables = next(iter(deploy._read(deploy.FILE).values()))["work_pool"]["job_variables"]
    return asyncio.run(Anything.from_template_and_values(pool.base_job_template, variables))


def test_a_container_has_the_home_the_photos_and_the_settings_at_the_same_paths(tmp_path: Path) -> None:
    started = job(made(settings("docker", tmp_path)))
    home = str(tmp_path / "home")
    config = str(tmp_path / "prod.toml")
    assert started.volumes == [f"{home}:{home}", "/data/photos:/data/photos:ro", f"{config}:{config}:ro"]
    assert (started.env["CAR_DAMAGE_CONFIG"], started.env["CAR_DAMAGE_HOME"]) == (config, home)
    assert started.env["PREFECT_LOGGING_EXTRA_LOGGERS"] == "car_damage"
    assert (started.image, started.network_mode, started.auto_remove, started.stream_output) == ("car-damage", "host", True, False)


def test_a_container_has_the_folders_outside_of_the_home_folder_that_runs_clear_and_may_write_there(tmp_path: Path) -> None:
    there = {"corrections": "/data/corrections", "keep_for_review": "/data/kept"}
    started = job(made(settings("docker", tmp_path, answers=there, monitoring={"log_folder": "/data/requests"})))
    assert started.volumes[2:-1] == [f"/data/{name}:/data/{name}" for name in ("corrections", "kept", "requests")]


def test_a_container_has_the_folder_of_a_backbone_in_a_file(tmp_path: Path) -> None:
    for backbone, mounted in (("/data/weights/b.keras", ["/data/weights:/data/weights:ro"]), ("MobileNetV2", [])):
        training = {"network": "transfer", "backbone": backbone, "weights": "/data/weights/w.h5" if mounted else "imagenet"}
        assert job(made(settings("docker", tmp_path, training=training))).volumes[3:] == mounted


def test_a_pod_claims_its_folders_and_runs_as_nobody_s_root(tmp_path: Path) -> None:
    pool = made(settings("kubernetes", tmp_path, serving={"host": "databricks"}))
    manifest = job(pool).job_manifest["spec"]["template"]["spec"]
    (container,) = manifest["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"home": str(tmp_path / "home"), "photos": "/data/photos", "settings": str(tmp_path)}
    assert [volume["name"] for volume in manifest["volumes"]] == list(mounts)
    assert (container["image"], manifest["securityContext"]["runAsNonRoot"]) == ("car-damage", True)
    assert f"--uid {manifest['securityContext']['runAsUser']}" in (ROOT / "deployments" / "containers" / "Dockerfile").read_text()


def test_a_run_whose_stages_are_in_databricks_needs_no_folder_but_its_settings(tmp_path: Path) -> None:
    elsewhere = {"uri": "databricks", "registry_uri": "databricks-uc"}
    tables = {"engine": "spark", "names": "catalog"}
    given = Settings(
        tracking=elsewhere, tables=tables, serving={"host": "databricks"}, databricks={"stages": "jobs"}, workers={"pool": "docker"}
    )
    assert job(made(given)).volumes == [f"{tmp_path / 'prod.toml'}:{tmp_path / 'prod.toml'}:ro"]


def test_what_a_person_changed_in_the_template_stays_and_the_rest_follows_the_settings(tmp_path: Path) -> None:
    template = made(settings("docker", tmp_path)).base_job_template
    template["variables"]["properties"]["volumes"]["default"] = ["/mine:/mine"]
    template["variables"]["properties"]["mem_limit"]["default"] = "8g"
    change(template)
    moved = settings("docker", tmp_path).model_copy(update={"home": tmp_path / "moved"})
    item = work_pool.item(moved)
    assert item.check() == "differs: its template"
    started = job(made(moved))
    assert (started.volumes, started.mem_limit) == (["/mine:/mine"], "8g")
    assert started.env["CAR_DAMAGE_HOME"] == str(tmp_path / "moved")
    assert item.check() is None


def test_a_process_pool_has_prefect_s_own_template_and_another_type_is_refused(tmp_path: Path) -> None:
    pool = made(settings("process", tmp_path))
    assert (pool.type, work_pool.NOTE in pool.base_job_template) == ("process", False)
    with pytest.raises(SettingsError, match=r"has the type process, and workers\.pool is docker: .*`\.venv/bin/prefect work-pool delete"):
        work_pool.item(settings("docker", tmp_path)).check()


@pytest.mark.parametrize(
    ("given", "code"), [({}, str(ROOT)), ({"POOL": "docker"}, IN_THE_IMAGE), ({"POOL": "kubernetes", "CODE": "/code"}, "/code")]
)
def test_the_pull_step_names_the_folder_of_the_code_where_a_run_starts(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], code: str
) -> None:
    monkeypatch.setenv("CAR_DAMAGE_SERVING__HOST", "databricks")
    for name, value in given.items():
        monkeypatch.setenv(f"CAR_DAMAGE_WORKERS__{name}", value)
    assert release()["code"] == code
    (step,) = deploy._read(deploy.FILE)["retrain"]["pull"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": code}}
    assert (
        "{{ release.code }}"
        in yaml.safe_load(deploy.FILE.read_text())["pull"][0]["prefect.deployments.steps.set_working_directory"]["directory"]
    )
