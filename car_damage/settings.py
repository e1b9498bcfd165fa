"""Every setting, with its default, its unit and its bounds.

Settings come from three places, the later ones winning: the defaults below, the TOML file that
`CAR_DAMAGE_CONFIG` names, and environment variables (`CAR_DAMAGE_LANDING__FOLDER=/photos`: prefix, then the key
with two underscores for each dot of the TOML file). They are frozen once read, and closed: an unknown key or a
misspelt variable is an error that names it.
A target (one laptop, Databricks) is nothing but such a file.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from car_damage.photo.limits import Limits

PREFIX = "CAR_DAMAGE_"
CONFIG_VARIABLE = "CAR_DAMAGE_CONFIG"

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Cost = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
# As text, because a landing folder need not be on this machine. The slash makes it a prefix of its own files only.
FolderPath = Annotated[str, AfterValidator(lambda path: str(Path(path).expanduser().absolute()) + "/")]


class Section(BaseModel):
    """One table of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Landing(Section):
    """Where labelled photos arrive. Only ever read."""

    folder: FolderPath = "/Volumes/insurance_uc/landing/raw_data/data/training_imgs/"
    """The folder, listed with everything below it. A path below /Volumes/ is a Unity Catalog volume;
    where it is not mounted it is read through Databricks' Files API, with databricks-sdk's own authentication."""
    max_vanished_share: Share = 0.5
    """At most this share of the known photos may vanish between two runs; above it the run stops and writes
    nothing, because an empty mount looks just like it. The parameter allow_removals lifts it for one run."""


class Labels(Section):
    """How a photo gets its class."""

    source: Literal["folder", "file_name", "table"] = "folder"
    """The parent folder's name; the first word of the file's name that is a class; or a CSV or Delta table."""
    table: str | None = None
    """With source = "table": a CSV file, or a Delta table's folder, with columns path (relative to the landing folder) and label."""
    classes: tuple[str, ...] = ("minor", "moderate", "major")
    """The classes, in the order of the model's outputs, from mildest to worst."""
    aliases: dict[str, str] = {
        "severe": "major",
        "high": "major",
        "heavy": "major",
        "medium": "moderate",
        "mid": "moderate",
        "low": "minor",
        "light": "minor",
        "slight": "minor",
    }
    """Other words for a class. Case does not matter."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must be two or more different names")
        if unknown := sorted(set(self.aliases.values()) - set(self.classes)):
            raise ValueError(f"aliases point to {', '.join(unknown)}, which is not among classes {', '.join(self.classes)}")
        if (self.source == "table") != (self.table is not None):
            raise ValueError('table must be given with source = "table", and only then')
        return self


class Images(Section):
    """Which photos are usable, and how many are read at once."""

    min_side: Annotated[int, Field(ge=8)] = Limits.min_side
    """Pixels. A photo whose shorter side is below this is rejected as too small."""
    max_pixels: Annotated[int, Field(ge=224 * 224)] = Limits.max_pixels
    """Pixels. A larger photo is rejected before any of it is decoded."""
    max_bytes: Annotated[int, Field(ge=1 << 16)] = Limits.max_bytes
    """Bytes. A larger file is rejected without being read."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads that read and decode. 0: one a core."""
    cache_bytes: Annotated[int, Field(ge=0)] = 32 << 30
    """Bytes on the local disk for the decoded photos of a training, 150,528 each, and at most 80 % of what is free there. The
    rest is read and decoded anew in each epoch."""

    def limits(self) -> Limits:
        """As the decoder takes them."""
        return Limits(self.min_side, self.max_pixels, self.max_bytes)


class Tables(Section):
    """The Delta tables and the engine that reads and writes them."""

    engine: Literal["delta-rs", "spark"] = "delta-rs"
    """delta-rs: embedded, on a local disk. spark: on Spark, as the section spark says."""
    names: Literal["folders", "catalog"] = "folders"
    """Where a table is. folders: catalog/schema/table below the home folder. catalog: of that name in Unity Catalog, by Spark."""
    bronze: str = "insurance_uc.bronze.raw_images"
    """catalog.schema.table. One row for each version of each file ever seen."""
    silver: str = "insurance_uc.silver.training_images"
    """catalog.schema.table. One row for each content that training may use."""
    predictions: str = "insurance_uc.gold.predictions"
    """catalog.schema.table. What the flow score wrote: one row for each photo and model version."""


class Spark(Section):
    """Spark, for tables.engine = "spark". A Databricks cluster or job has a session, which is used whatever this says."""

    master: str = "local[*,4]"
    """local[*,4]: in this process, on all cores, each task tried four times; or a master (spark://host:7077); or a Spark Connect
    server (sc://host:15002). The landing folder and the home folder must be at the same paths on its machines as here."""
    conf: dict[str, str] = {}
    """Further settings of Spark, such as spark.driver.memory; in the environment as JSON, over those of the file. A Connect server
    keeps its own, and takes from here what a session may set."""

    @model_validator(mode="after")
    def _spark_s_words(self) -> Self:
        # Without what was given: the address may hold a token.
        if not re.match(r"local(\[.+\])?$|(spark|sc|k8s)://.|yarn$", self.master):
            raise ValueError("master must be local[*,4] or the like, spark://host:7077, sc://host:15002, k8s://... or yarn")
        if foreign := sorted(name for name in self.conf if not name.startswith("spark.")):
            raise ValueError(f"conf has {', '.join(foreign)}, and the names of Spark's settings begin with spark.")
        return self


class Split(Section):
    """How photos are divided into train, validation and test. Applies to photos not yet divided."""

    test: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """Share of the photos that judge a model and are never trained on."""
    validation: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """Share of the photos that stop the training early."""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=8)] = 8
    """Two photos whose 64-bit perceptual hashes differ in at most so many bits share a split."""


class Training(Section):
    """The network and how it is trained."""

    network: Literal["cnn"] = "cnn"
    """cnn: a small convolutional network, from scratch."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 40
    """At most so many passes over the training photos."""
    patience: Annotated[int, Field(ge=1)] = 10
    """Epochs without a better validation loss after which training stops; the best weights are kept."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 8
    """Photos a step."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Adam's rate at the first step."""
    augment: bool = True
    """Mirror, shift, brighten and darken training photos at random."""
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 20
    """Weights, order of photos and augmentation follow from it."""


class Tracking(Section):
    """MLflow: runs and the model registry."""

    uri: str | None = None
    """MLflow tracking server or store. None: SQLite in the home folder."""
    registry_uri: str | None = None
    """MLflow model registry. None: the same as uri."""
    ui: str | None = None
    """Base URL of MLflow's pages, for links to them. None: uri, where that is a server."""
    experiment: str = "car-damage"
    """The experiment's name."""
    model: str = "insurance_uc.models.car_damage_classifier"
    """The registered model, catalog.schema.model."""
    check_environment: Literal["this", "uv"] = "this"
    """Where a model must answer one photo before it is registered: a clean process of this environment, or a
    fresh environment that uv builds from the model's own requirements (minutes, and the network)."""
    check_timeout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that loading a model and answering may take in that process, before the answers themselves."""


class Promotion(Section):
    """When a new version replaces the champion."""

    mode: Literal["automatic", "approval"] = "automatic"
    """automatic: a version that meets all conditions goes live. approval: the run ends "Awaiting approval", and a
    person takes the version live with the flow promote."""

    min_gain: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """Macro-F1 that the candidate must be ahead of the champion on the same test photos."""
    min_confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.8
    """Share of paired bootstrap resamples of the test photos in which the candidate is ahead."""
    min_test_photos: Annotated[int, Field(ge=1)] = 30
    """With fewer test photos a comparison says nothing, and the champion stays."""
    recall_floor: dict[str, Share] = {"major": 0.3}
    """Recall that a class needs on the test photos; no version below it goes live, not even the first."""
    costs: dict[str, dict[str, Cost]] = {
        "major": {"minor": 10.0, "moderate": 4.0},
        "moderate": {"minor": 3.0, "major": 1.0},
        "minor": {"moderate": 1.0, "major": 2.0},
    }
    """What a mistake costs, in any unit: true class -> predicted class -> cost. A mistake that is not listed costs 1."""
    max_cost_rise: Cost = 0.0
    """Cost, a test photo on average, by which the candidate's mistakes may exceed the champion's."""
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2_000
    """Bootstrap resamples."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the bootstrap, so that a decision can be computed again."""


class Scoring(Section):
    """What the flow score asks the model about, without the endpoint."""

    source: str = ""
    """A folder; or catalog.schema.table, a table with a column path. Empty: the landing folder."""
    chunk: Annotated[int, Field(ge=1, le=1_000_000)] = 5_000
    """Photos after which what is known so far is written, so that a run that is killed loses no more than these."""


class Serving(Section):
    """The endpoint that answers with the champion."""

    endpoint: str = "car_damage_model_ep"
    """The endpoint's name."""
    host: str | None = "http://127.0.0.1:5055"
    """Base URL of the local endpoint server, or of a workspace. "databricks", or None: the workspace that the credentials belong to."""
    workload_size: Literal["Small", "Medium", "Large"] = "Small"
    """Concurrency that is provisioned; CPU."""
    tags: dict[str, str] = {"service": "car-damage"}
    """Tags of the endpoint, by which Databricks tells its cost; those that others have set stay."""
    inference_table: Annotated[str, Field(pattern=r"^[^.]+\.[^.]+\.[^.]+$")] | None = None
    """catalog.schema.prefix of the table in which a workspace keeps each request and answer, photos included. None: none is asked for."""
    scale_to_zero: bool = True
    """Stop the model's process after a time without requests; the next request starts it again and waits for it."""
    idle_timeout: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds without a request after which the local endpoint server scales to zero; Databricks takes 30 minutes."""
    update_timeout: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds that a new version may take to become ready."""
    poll: Annotated[float, Field(gt=0)] = 2.0
    """Seconds between two looks at an update."""
    request_timeout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that one call of the endpoint may take; it covers the start of an endpoint that has scaled to zero."""
    max_request_bytes: Annotated[int, Field(ge=1 << 10)] = 16 << 20
    """Bytes of one request that the local endpoint server takes; Databricks takes 16 MiB."""
    max_queue: Annotated[int, Field(ge=1)] = 64
    """Requests that may wait in the local endpoint server before it answers 429."""


class Databricks(Section):
    """Databricks, for stages that run there as jobs."""

    stages: Literal["here", "jobs"] = "here"
    """Where validation, training and judging run. here: in the process of the flow run. jobs: as runs of the jobs below."""
    credentials: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    """The Prefect block of type databricks-credentials. None: databricks-sdk's unified authentication decides."""
    service_principal: Annotated[str, Field(min_length=1)] | None = None
    """Application id of the service principal that the flow runs' worker and the jobs work as; bootstrap gives it what it needs.
    None: whoever runs bootstrap."""
    handovers: FolderPath = "/Volumes/insurance_uc/ops/runs/"
    """The folder by which flow runs and jobs hand over requests and reports; both write to it, and nothing removes them."""
    wheels: FolderPath = "/Volumes/insurance_uc/ops/wheels/"
    """The folder to which bootstrap puts the wheel that the jobs install."""
    ingest_job: str = "car-damage-ingest"
    """The job that validates photos and writes silver."""
    train_job: str = "car-damage-train"
    """The job that trains and judges."""
    score_job: str = "car-damage-score"
    """The job that scores."""
    compute: Literal["serverless", "job_cluster", "existing_cluster"] = "serverless"
    """What bootstrap lets the jobs run on. serverless: Databricks' own compute. job_cluster: a cluster that is made for each run,
    for workspaces without serverless compute. existing_cluster: one that is there anyway, for development."""
    spark_version: Annotated[str, Field(pattern=r"^\S+$")] = "17.3.x-scala2.13"
    """Databricks Runtime of the job clusters; with Python 3.11 or later."""
    node_type: Annotated[str, Field(pattern=r"^\S+$")] | None = None
    """Node type of the job clusters: m5d.xlarge, Standard_D4ds_v5. None: the cluster policy says it."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Workers of a job cluster. 0: one node does all, which is enough but for a very large landing folder."""
    cluster_policy: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")] | None = None
    """Id of the policy that the job clusters follow. What it has as default or as fixed is used for what is not said here."""
    package_index: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")] | None = None
    """URL of the package index from which the jobs install, without credentials in it. None: the workspace's own default."""
    existing_cluster: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    """Id of the existing cluster: 0923-164208-meows279. It must have dedicated access, for whom the jobs run as."""
    poll: Annotated[float, Field(gt=0)] = 10.0
    """Seconds between two looks at a run of a job."""
    patience: Annotated[float, Field(ge=0)] = 900.0
    """Seconds for which the workspace may give no answer while a run of a job is waited for."""

    @model_validator(mode="after")
    def _one_compute(self) -> Self:
        if self.compute == "job_cluster" and not (self.node_type or self.cluster_policy):
            raise ValueError("compute job_cluster needs node_type, or a cluster_policy that says it")
        if self.compute == "existing_cluster" and not self.existing_cluster:
            raise ValueError("compute existing_cluster needs the cluster's id in existing_cluster")
        owners = {
            "node_type": "job_cluster",
            "workers": "job_cluster",
            "cluster_policy": "job_cluster",
            "existing_cluster": "existing_cluster",
        }
        for name, owner in owners.items():
            if getattr(self, name) and self.compute != owner:
                raise ValueError(f"{name} is of compute {owner}, and compute is {self.compute}: leave it out, or set compute")
        return self


class Stack(Section):
    """Ports of what `make up` starts on 127.0.0.1, beside the endpoint, whose port is that of serving.host."""

    prefect_port: Annotated[int, Field(ge=1, le=65535)] = 4200
    """The Prefect server and its pages."""
    mlflow_port: Annotated[int, Field(ge=1, le=65535)] = 5000
    """MLflow's pages."""


class Doorbell(Section):
    """When new photos start a run."""

    quiet: Annotated[float, Field(gt=0, le=3600)] = 3.0
    """Seconds without a change after which `make watch` takes the photos as landed. The flow watch-landing waits for
    two equal looks instead."""
    repeat_after: Annotated[float, Field(ge=60)] = 300.0
    """Seconds after which photos are announced once more when no run came."""


class Alerts(Section):
    """What a person is told of, and how."""

    notify: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None = None
    """The Prefect notification block that is told, as type/name: slack-webhook/car-damage. None: nobody is."""
    kept_in_a_row: Annotated[int, Field(ge=2)] = 5
    """Runs in a row whose new version was not better than the champion."""
    rejected_share: Share = 0.3
    """Share of a run's new files that cannot be used, above which someone is told."""
    rejected_files: Annotated[int, Field(ge=1)] = 10
    """With fewer new files than this in a run, their share says nothing."""
    late_after: Annotated[float, Field(ge=60)] = 900.0
    """Seconds after its time that a run may still not have started."""
    zombie_after: Annotated[float, Field(ge=90)] = 120.0
    """Seconds without a sign of life (one comes every 30 s) after which a run is taken as lost and started again."""


class Settings(BaseSettings):
    """All settings of one target."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    home: AbsolutePath = Path(".car_damage")
    """Folder of everything that the local target keeps: tables/, mlflow.db, artifacts/, endpoint/."""
    landing: Landing = Landing()
    labels: Labels = Labels()
    images: Images = Images()
    tables: Tables = Tables()
    spark: Spark = Spark()
    split: Split = Split()
    training: Training = Training()
    tracking: Tracking = Tracking()
    promotion: Promotion = Promotion()
    scoring: Scoring = Scoring()
    serving: Serving = Serving()
    doorbell: Doorbell = Doorbell()
    alerts: Alerts = Alerts()
    databricks: Databricks = Databricks()
    stack: Stack = Stack()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tables.names == "catalog" and self.tables.engine != "spark":
            raise ValueError('tables.names = "catalog" needs tables.engine = "spark": delta-rs keeps its tables in folders')
        if self.serving.inference_table and urlsplit(self.serving.host or "").scheme == "http":
            raise ValueError("serving.inference_table is for an endpoint in a workspace: the local endpoint server keeps no requests")
        if self.databricks.stages == "jobs":
            for setting in ("uri", "registry_uri"):
                if urlsplit(getattr(self.tracking, setting) or "").password:
                    raise ValueError(f"tracking.{setting} must hold no password where stages are jobs: it is handed to them in a file")
        costs = self.promotion.costs
        named = {"recall_floor": set(self.promotion.recall_floor), "costs": {*costs, *(said for row in costs.values() for said in row)}}
        for setting, names in named.items():
            if unknown := sorted(names - set(self.labels.classes)):
                raise ValueError(
                    f"promotion.{setting} names {', '.join(unknown)}, which is not among labels.classes {', '.join(self.labels.classes)}; "
                    "set it for these classes"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file over defaults; no .env file and no secrets folder, so that there is one place to look."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, os.environ.get(CONFIG_VARIABLE) or None)

    @property
    def tracking_uri(self) -> str:
        """Where runs go: the setting, or SQLite in the home folder."""
        return self.tracking.uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def registry_uri(self) -> str:
        """Where versions go: the setting, or the same as the runs."""
        return self.tracking.registry_uri or self.tracking_uri
