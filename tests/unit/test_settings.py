import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from car_damage.errors import SettingsError
from car_damage.settings import PREFIX, Promotion, Section, Settings
from car_damage.settings_sources import load

LOCAL = Path(__file__).parents[2] / "deployments" / "settings" / "local.toml"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:

    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def write(folder: Path, text: str) -> str:
    path = folder / "settings.toml"
    path.write_text(text)
    return str(path)


def test_the_names_that_users_rely_on_are_the_defaults() -> None:
    settings = load()
    assert settings.tables.bronze == "insurance_uc.bronze.raw_images"
    assert settings.tables.silver == "insurance_uc.silver.training_images"
    assert settings.tables.splits == "insurance_uc.silver.splits"
    assert settings.tracking.model == "insurance_uc.models.car_damage_classifier"
    assert settings.serving.endpoint == "car_damage_model_ep"
    assert settings.labels.classes == ("minor", "moderate", "major")


def test_without_a_file_the_settings_are_those_of_one_laptop() -> None:
    here, settings = Path.cwd(), load()
    assert (settings.home, settings.landing.folder) == (here / ".car_damage", f"{here}/.car_damage/landing/")
    assert (settings.tables.engine, settings.tables.names, settings.databricks.stages) == ("delta-rs", "folders", "here")
    assert settings.serving.host == "http://127.0.0.1:5055"


def test_photos_land_below_the_home_folder_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("CAR_DAMAGE_LANDING__MAX_VANISHED_SHARE", "0.2")
    settings = load()
    assert (settings.landing.folder, settings.landing.max_vanished_share) == (f"{tmp_path}/elsewhere/landing/", 0.2)
    monkeypatch.setenv("CAR_DAMAGE_LANDING__FOLDER", "/photos")
    assert load().landing.folder == "/photos/"


def test_jobs_in_databricks_find_the_photos_on_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_DATABRICKS__STAGES", "jobs")
    assert load().landing.folder == "/Volumes/insurance_uc/landing/raw_data/data/training_imgs/"


def test_a_file_in_the_current_folder_is_read_unless_the_variable_names_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("car-damage.toml").write_text("[training]\nepochs = 5\n")
    assert load().training.epochs == 5
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", write(tmp_path, "[training]\nepochs = 6\n"))
    assert load().training.epochs == 6


def test_a_mistake_in_the_file_of_the_current_folder_names_the_file() -> None:
    Path("car-damage.toml").write_text("[training]\nepochs = 0\n")
    with pytest.raises(SettingsError, match=r"^settings in car-damage\.toml or the environment: training\.epochs"):
        load()


def test_the_local_settings_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", str(LOCAL))
    assert load().landing.folder == f"{Path.cwd()}/.car_damage/landing/"


def test_the_databricks_settings_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", str(LOCAL.with_name("databricks.toml")))
    settings = load()
    assert (settings.tables.names, settings.databricks.stages, settings.training.network) == ("catalog", "jobs", "auto")
    assert settings.landing.folder == "/Volumes/insurance_uc/landing/raw_data/data/training_imgs/"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", write(tmp_path, "[training]\nepochs = 5\npatience = 2\n"))
    monkeypatch.setenv("CAR_DAMAGE_TRAINING__EPOCHS", "7")
    settings = load()
    assert (settings.training.epochs, settings.training.patience) == (7, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[trainin]\nepochs = 5\n", "unknown setting trainin; did you mean training?"),
        ("[training]\nepoch = 5\n", "unknown setting training.epoch; did you mean epochs?"),
        ("home = 5\n", "home: Input is not a valid path"),
        ('databricks = "x"\n', "databricks: Input should be a valid dictionary or instance of Databricks"),
        ("[training]\nepochs = 0\n", "training.epochs: Input should be greater than or equal to 1 (given: 0)"),
        ('[labels]\nsource = "guess"\n', "labels.source: Input should be 'folder', 'file_name' or 'table' (given: 'guess')"),
        ('[labels]\naliases = {bad = "worse"}\n', "aliases point to worse, which is not among classes minor, moderate, major"),
        ('[labels]\nsource = "table"\n', 'table must be given with source = "table"'),
        ("[promotion.recall_floor]\nhuge = 0.5\n", "recall_floor names huge, which is not among labels.classes"),
        ("[promotion.costs.huge]\nminor = 5\n", "promotion.costs names huge, which is not among labels.classes"),
        ("[promotion.costs.major]\nminr = 5\n", "promotion.costs names minr, which is not among labels.classes"),
        ("[promotion.costs.major]\nminor = -1\n", "promotion.costs.major.minor: Input should be greater than or equal to 0"),
        ('[promotion]\nmode = "manual"\n', "promotion.mode: Input should be 'automatic' or 'approval'"),
        ('[spark]\nmaster = "locla[*]"\n', "spark: master must be local[*,4] or the like, spark://host:7077, sc://host:15002"),
        ('[spark]\nmaster = "sc:/host:15002"\n', "spark: master must be"),
        ('[spark.conf]\n"driver.memory" = "4g"\n', "conf has driver.memory, but the names of Spark's settings begin with spark."),
    ],
)
def test_an_error_in_the_file_names_the_key_and_what_is_allowed(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", write(tmp_path, text))
    with pytest.raises(SettingsError) as raised:
        load()
    assert expected in str(raised.value)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "[training\n")
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", path)
    with pytest.raises(SettingsError, match=r"settings\.toml is not TOML"):
        load()


def test_a_file_in_another_encoding_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.toml").write_bytes('home = "/tmp/\xfc"'.encode("latin-1"))
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", str(tmp_path / "settings.toml"))
    with pytest.raises(SettingsError, match=r"settings\.toml is not TOML"):
        load()


def test_a_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", "/nowhere/settings.toml")
    with pytest.raises(SettingsError, match=r"CAR_DAMAGE_CONFIG names /nowhere/settings\.toml"):
        load()


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("CAR_DAMAGE_HOEM", "CAR_DAMAGE_HOEM is not a setting; did you mean CAR_DAMAGE_HOME?"),
        ("CAR_DAMAGE_TRAINING__EPOCH", "did you mean CAR_DAMAGE_TRAINING__EPOCHS?"),
        ("CAR_DAMAGE_TRAINING_EPOCHS", "did you mean CAR_DAMAGE_TRAINING__EPOCHS?"),
    ],
)
def test_a_misspelt_variable_is_an_error_and_not_ignored(variable: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError) as raised:
        load()
    assert expected in str(raised.value)


def test_a_wrong_address_of_spark_is_refused_without_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_SPARK__MASTER", "sc:/host/;token=marker")
    with pytest.raises(SettingsError, match="master must be") as raised:
        load()
    assert "marker" not in str(raised.value)


@pytest.mark.parametrize("master", ["local", "local[*]", "local[2,4]", "spark://one:7077,two:7077", "sc://host:1/;token=t", "yarn"])
def test_every_kind_of_spark_is_taken(master: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_SPARK__MASTER", master)
    assert load().spark.master == master


def test_a_table_in_the_environment_that_is_not_json_is_named_with_what_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_DAMAGE_SPARK__CONF", '{"spark.driver.memory"="4g"}')
    with pytest.raises(SettingsError, match=r'CAR_DAMAGE_SPARK__CONF is not JSON .*: write a table as {"key": "value"}'):
        load()
    monkeypatch.setenv("CAR_DAMAGE_CONFIG", write(tmp_path, '[spark.conf]\n"spark.executor.memory" = "2g"\n'))
    monkeypatch.setenv("CAR_DAMAGE_SPARK__CONF", '{"spark.driver.memory": "4g"}')
    assert load().spark.conf == {"spark.executor.memory": "2g", "spark.driver.memory": "4g"}


def test_settings_cannot_be_changed_once_read() -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.training.epochs = 3  # type: ignore[misc]


def test_every_setting_is_documented() -> None:
    def undocumented(model: type[Section] | type[Settings], at: str) -> list[str]:
        missing = []
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                missing += undocumented(field.annotation, f"{at}{name}.")
            elif not field.description:
                missing.append(f"{at}{name}")
        return missing

    assert undocumented(Settings, "") == []


def test_resamples_that_cannot_show_the_confidence_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"promotion\.resamples must be at least 199 to show promotion\.min_confidence = 0\.99"):
        Promotion(resamples=198)
    assert Promotion(resamples=199).min_confidence == 0.99


@pytest.mark.parametrize("mark", ["[", "]", "^", "|", "\\", "?", "%20"])
def test_a_home_that_the_stores_would_not_find_again_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    monkeypatch.setenv("CAR_DAMAGE_HOME", f"/srv/a{mark}b")
    with pytest.raises(SettingsError) as refused:
        load()
    assert f"a path with {mark} again: set home (CAR_DAMAGE_HOME) to a folder without" in str(refused.value)
    monkeypatch.delenv("CAR_DAMAGE_HOME")
    labels = {"source": "table", "table": f"/srv/a{mark}b/labels"}
    with pytest.raises(ValidationError, match=f"delta-rs finds no table at a path with {re.escape(mark)}: move it, or name a .csv file"):
        Settings(labels=labels)  # type: ignore[arg-type]
    assert Settings(labels=labels | {"table": f"/srv/a{mark}b/labels.csv"}).labels.table  # type: ignore[arg-type]
    monkeypatch.setenv("CAR_DAMAGE_HOME", f"/srv/a{mark}b")
    monkeypatch.setenv("CAR_DAMAGE_TABLES", '{"engine": "spark", "names": "catalog"}')
    monkeypatch.setenv("CAR_DAMAGE_TRACKING__URI", "databricks")
    assert load().home.name == f"a{mark}b"


@pytest.mark.parametrize(("home", "mark"), [("/srv/:b", ":b"), ("/srv/a :b/c", ":b"), ("/srv/a'b/\"c", "'b/\""), ("/srv/\"a'", "\"a'")])
def test_a_home_that_mlflow_would_not_quote_is_refused_too(home: str, mark: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(f"a path with {mark} again: set home")):
        Settings(home=home)  # type: ignore[arg-type]
    assert Settings(home="/srv/it's/a:b/c::d/e: f")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["HOME", "LANDING__FOLDER"])
def test_a_folder_whose_name_is_not_utf_8_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"CAR_DAMAGE_{name}", os.fsdecode(b"/srv/lat\xefn"))
    with pytest.raises(SettingsError, match=r"is '/srv/lat.udcefn/?', and tables and databases keep only paths in UTF-8: rename") as told:
        load()
    told.value.args[0].encode()  # it can be printed


def test_names_of_unity_catalog_are_folded_and_names_of_folders_are_not() -> None:
    capitals = {"tables": {"bronze": "Insurance_UC.Bronze.Raw"}, "tracking": {"model": "Insurance_UC.Models.Cars"}}
    here = Settings(**capitals, landing={"folder": "/Volumes/Photos/DCIM/2026/New"})
    assert (here.tables.bronze, here.tracking.model) == ("Insurance_UC.Bronze.Raw", "Insurance_UC.Models.Cars")
    assert here.landing.folder == "/Volumes/Photos/DCIM/2026/New/"
    there = Settings(
        tables={**capitals["tables"], "engine": "spark", "names": "catalog"},
        tracking={**capitals["tracking"], "registry_uri": "databricks-uc"},
        serving={"host": "databricks", "inference_table": "Insurance_UC.gold.Asked"},
        databricks={"stages": "jobs", "wheels": "/Volumes/Insurance_UC/ops/Wheels/"},
        landing={"folder": "/Volumes/Insurance_UC/Landing/Raw/Photos/New"},
    )
    assert (there.tables.bronze, there.tracking.model) == ("insurance_uc.bronze.raw", "insurance_uc.models.cars")
    assert (there.serving.inference_table, there.databricks.wheels) == ("insurance_uc.gold.asked", "/Volumes/insurance_uc/ops/wheels/")
    assert there.landing.folder == "/Volumes/insurance_uc/landing/raw/Photos/New/"
    assert Settings.model_validate(there.model_dump()) == there


def test_another_catalog_is_that_of_every_name_that_is_left_at_its_default() -> None:
    given = {"stages": "jobs", "catalog": "insurance_uc_dev", "wheels": "/Volumes/insurance_uc/shared/wheels/"}
    settings = Settings(databricks=given, tables={"splits": "insurance_uc.splits.all"})
    assert settings.landing.folder == "/Volumes/insurance_uc_dev/landing/raw_data/data/training_imgs/"
    assert (settings.tables.bronze, settings.tables.splits) == ("insurance_uc_dev.bronze.raw_images", "insurance_uc.splits.all")
    assert settings.tracking.model == "insurance_uc_dev.models.car_damage_classifier"
    assert settings.databricks.handovers == "/Volumes/insurance_uc_dev/ops/runs/"
    assert settings.databricks.wheels == "/Volumes/insurance_uc/shared/wheels/"
    assert Settings.model_validate(settings.model_dump()) == settings


def test_corrections_lie_in_the_home_folder_or_on_a_volume_and_never_where_photos_land(tmp_path):
    home = tmp_path / ".home"
    assert Settings(home=home).answers.corrections == f"{home}/corrections/"
    assert Settings(home=home, landing={"folder": str(tmp_path)}).answers.corrections == f"{home}/corrections/"
    there = Settings(databricks={"stages": "jobs", "catalog": "Lab"}, tables={"names": "catalog", "engine": "spark"})
    assert there.answers.corrections == "/Volumes/lab/ops/corrections/"
    for inside in (tmp_path / "photos" / "corrections", tmp_path):
        with pytest.raises(ValidationError, match="neither may lie in the other"):
            Settings(landing={"folder": str(tmp_path / "photos")}, answers={"corrections": str(inside)})


@pytest.mark.parametrize(("kept", "requests"), [("x", "x"), ("x", "x/requests"), ("x/kept", "x")])
def test_photos_for_a_person_and_noted_requests_lie_apart(tmp_path, kept, requests):
    with pytest.raises(ValidationError, match=r"monitoring\.log_folder is .* answers\.keep_for_review is .* neither may lie in the other"):
        Settings(answers={"keep_for_review": str(tmp_path / kept)}, monitoring={"log_folder": str(tmp_path / requests)})


def test_noted_requests_wait_in_the_home_folder_or_on_a_volume_and_never_where_photos_land(tmp_path):
    assert Settings(home=tmp_path).monitoring.log_folder == f"{tmp_path}/requests/"
    there = {"log_folder": "/Volumes/Lab/Ops/requests"}
    jobs = Settings(monitoring=there, databricks={"stages": "jobs", "catalog": "Lab"}, tables={"names": "catalog", "engine": "spark"})
    assert jobs.monitoring.log_folder == "/Volumes/lab/ops/requests/"
    with pytest.raises(ValidationError, match=r"monitoring\.log_folder is .* neither may lie in the other"):
        Settings(landing={"folder": str(tmp_path)}, monitoring={"log_folder": str(tmp_path / "requests")})
