"""The output of `car-damage status` on an empty home, and for a version that waits for a person."""

from pathlib import Path

import mlflow
import pytest

from car_damage.adapters.mlflow.client import client
from car_damage.commands.status import look
from car_damage.commands.status import status as print_status
from car_damage.pipeline import ValidateRequest
from car_damage.platform import Target
from car_damage.settings import Landing, Settings
from car_damage.stage import silent
from car_damage.stages.validate import STAGE as VALIDATE
from deployments import demo_photos


def test_on_a_home_where_nothing_is_yet_it_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_status(Target(Settings(home=home)))
    printed = capsys.readouterr().out
    assert printed.count("does not exist yet") == 2
    assert "none yet" in printed


def test_a_version_that_waits_for_a_person_is_shown_with_the_command_and_its_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = Target(Settings(home=home))
    run = target.tracking.start("cnn", {"training_key": "key"})
    store = client(target.settings)
    mlflow.set_tracking_uri(target.settings.tracking_uri)
    model = store.create_logged_model(store.get_run(run).info.experiment_id, name="model", source_run_id=run)
    store.finalize_logged_model(model.model_id, "READY")
    uri = f"models:/{model.model_id}"
    target.registry.create(run, uri, {"decision": "await_approval", "judged_against": "none"}, "what it is")
    target.tracking.finish(run, uri)
    now = look(target)
    assert [version.version for version in now.awaiting] == [1]
    assert now.versions[run].version == 1
    print_status(target)
    assert "the flow promote takes it live" in capsys.readouterr().out


def test_files_of_another_landing_folder_are_counted_apart(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, photos in (("before", 2), ("now", 1)):
        (home / folder / "minor").mkdir(parents=True)
        for seed in range(photos):
            (home / folder / "minor" / f"{seed}.jpg").write_bytes(demo_photos.photo("minor", seed))
        (home / folder / "minor" / "empty.jpg").touch()
        target = Target(Settings(home=home, landing=Landing(folder=str(home / folder))))
        VALIDATE.work(ValidateRequest("flow"), target, silent)
    now = look(target)
    assert (now.files, now.elsewhere) == (2, 2)
    print_status(target)
    assert "2 files; rejected: 1 empty; 2 more from other landing folders, still used" in " ".join(capsys.readouterr().out.split())
