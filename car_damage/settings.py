"""Every setting, with its default, its unit and its bounds.

Settings come from three sources. A later source overrides an earlier one: the defaults below, which are those of one laptop, a
TOML file (`config_file`), and environment variables (`CAR_DAMAGE_LANDING__FOLDER=/photos`: the prefix, then the key
with two underscores for each dot). Settings cannot be changed after they are read. An unknown key or a misspelt
variable is an error that names it (`settings_sources.load`).
"""

import math
import os
import re
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from car_damage.photo.limits import Limits

PREFIX = "CAR_DAMAGE_"
CONFIG_VARIABLE = "CAR_DAMAGE_CONFIG"
CONFIG_FILE = "car-damage.toml"
"""The settings file of the current folder, if the variable names none."""
HOME = ".car_damage"
CATALOG = "insurance_uc"
_LANDING = "/Volumes/{}/landing/raw_data/data/training_imgs"
_CORRECTIONS = "/Volumes/{}/ops/corrections"


def is_path(name: str) -> bool:
    """Whether a setting that takes a name or a file names a file."""
    return "/" in name or name.endswith((".keras", ".h5"))


def _whole(name: str) -> str:
    return str(Path(name).expanduser().absolute()) if is_path(name) else name


Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
"""Numbers that a training computes with, by Keras' names."""
Job = Literal["ingest", "train", "score", "monitor"]
"""The jobs that do stages in Databricks."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Cost = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
# A string, because a landing folder need not be on this machine. The final slash makes it a prefix of its own files only.
FolderPath = Annotated[str, AfterValidator(lambda path: str(Path(path).expanduser().absolute()) + "/")]


def _weights(name: str) -> str:
    if not is_path(name) and name not in {"imagenet", "none"}:
        raise ValueError("weights must be imagenet, none, or a file (.h5)")
    return name


# A string, because a file on a volume need not be on this machine.
NameOrFile = Annotated[str, AfterValidator(_whole)]


class Section(BaseModel):
    """One table of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Landing(Section):
    """Where labelled photos arrive. The software reads this folder and never writes to it."""

    folder: Annotated[FolderPath, Field(validate_default=True)] = f"{HOME}/landing"
    """The folder with the photos; subfolders are included. By default the folder landing in the home folder; if the stages run as jobs
    in Databricks, /Volumes/<databricks.catalog>/landing/raw_data/data/training_imgs/. A path below /Volumes/ is a Unity Catalog
    volume. If the volume is not mounted, it is read through Databricks' Files API, and databricks-sdk finds the credentials."""
    max_vanished_share: Share = 0.5
    """The largest share of the known photos, and of those of each class, that may vanish between two runs. If more vanish, the run
    stops and writes nothing, because an unmounted folder looks the same. It also stops if so many photos of a class would leave the
    training photos because settings or labels changed. The parameter allow_removals lifts this limit for one run."""


class Labels(Section):
    """How a photo gets its class."""

    source: Literal["folder", "file_name", "table"] = "folder"
    """Where the label of a photo is. folder: the name of its folder. file_name: the first word of the file's name that is a
    class. table: a CSV file or a Delta table."""
    table: str | None = None
    """For source = "table": a CSV file, or the folder of a Delta table, with the columns path (relative to the landing folder)
    and label."""
    classes: tuple[str, ...] = ("minor", "moderate", "major")
    """The classes, from the mildest to the most severe. The model's outputs have the same order."""
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
            raise ValueError('table must be given with source = "table", and only with it')
        return self


class Images(Section):
    """Which photos are usable, and how many are read at once."""

    min_side: Annotated[int, Field(ge=8)] = Limits.min_side
    """Pixels. A photo whose shorter side is below this is rejected as too small."""
    max_pixels: Annotated[int, Field(ge=224 * 224)] = Limits.max_pixels
    """Pixels. A photo with more pixels is rejected before it is decoded."""
    max_bytes: Annotated[int, Field(ge=1 << 16)] = Limits.max_bytes
    """Bytes. A larger file is rejected and not read."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads that read and decode photos. 0: one thread per core."""
    cache_bytes: Annotated[int, Field(ge=0)] = 32 << 30
    """Bytes of the local disk that a training may use as a cache of decoded photos (150,528 bytes each). It uses at most
    80 % of the free space. Photos that do not fit are read and decoded again in each epoch."""

    def limits(self) -> Limits:
        """The limits as the decoder's own type."""
        return Limits(self.min_side, self.max_pixels, self.max_bytes)


TABLES = ("bronze", "silver", "splits", "reviews", "features", "predictions", "claims", "inference_log", "monitoring", "forgotten")
"""The settings of Tables that name a table."""


class Tables(Section):
    """The Delta tables and the engine that reads and writes them."""

    engine: Literal["delta-rs", "spark"] = "delta-rs"
    """delta-rs: a library in the same process; the tables are on a local disk. spark: Apache Spark, see the section spark."""
    names: Literal["folders", "catalog"] = "folders"
    """Where a table is stored. folders: in the folder catalog/schema/table below tables/ in the home folder. catalog: in Unity
    Catalog, under its three-level name; needs engine = "spark". Unity Catalog stores names in lower case, so capitals in
    the names of its tables, volumes and models are read as small letters."""
    bronze: str = "insurance_uc.bronze.raw_images"
    """catalog.schema.table. One row for each version of each file that was ever in the landing folder."""
    silver: str = "insurance_uc.silver.training_images"
    """catalog.schema.table. One row for each distinct photo that training may use."""
    splits: str = "insurance_uc.silver.splits"
    """catalog.schema.table. The split of each distinct photo that was ever in silver, so that a photo that comes back keeps it."""
    reviews: str = "insurance_uc.silver.reviews"
    """catalog.schema.table. What people have said about single photos: one row for each word, and none is ever changed."""
    features: str = "insurance_uc.silver.features"
    """catalog.schema.table. What a backbone sees in each photo, for the network transfer. It may be removed: it is computed again."""
    predictions: str = "insurance_uc.gold.predictions"
    """catalog.schema.table. The results of the flow score: one row for each photo and model version."""
    claims: str = "insurance_uc.gold.claims"
    """catalog.schema.table. What the scored photos of each claim say together, where claims are known."""
    inference_log: str = "insurance_uc.gold.inference_log"
    """catalog.schema.table. The endpoint's answers: one row for each photo of each request, without the photo."""
    monitoring: str = "insurance_uc.gold.monitoring"
    """catalog.schema.table. What each window of the request log says of the version that answered: one row for each window."""
    forgotten: str = "insurance_uc.silver.forgotten"
    """catalog.schema.table. A mark for each photo that was forgotten, by which it is not taken up again."""
    keep_days: Annotated[int, Field(ge=0)] = 7
    """Days for which a version of a table that was replaced can still be read. Then its files are removed, unless the champion, a
    version that may go live, or a training needs it. 0: this or the next run removes them. Tables in Unity Catalog are left to
    Databricks' predictive optimisation."""

    @property
    def all(self) -> tuple[str, ...]:
        """The names of all tables."""
        return tuple(getattr(self, name) for name in TABLES)


class Spark(Section):
    """Spark, for tables.engine = "spark". On Databricks, the session of the cluster or job is used and this section is ignored."""

    master: str = "local[*,4]"
    """local[*,4]: in this process, on all cores, with four attempts for each task. spark://host:7077: a Spark cluster.
    sc://host:15002: a Spark Connect server. The landing folder and the home folder must have
    the same paths on Spark's machines as on this machine."""
    conf: dict[str, str] = {}
    """More settings of Spark, such as spark.driver.memory. The environment variable holds JSON; its keys override those of the
    file. A Spark Connect server keeps its own settings, except those that a session may set."""

    @model_validator(mode="after")
    def _valid_for_spark(self) -> Self:
        # The message does not repeat the address, because the address may contain a token.
        if not re.match(r"local(\[.+\])?$|(spark|sc|k8s)://.|yarn$", self.master):
            raise ValueError("master must be local[*,4] or the like, spark://host:7077, sc://host:15002, k8s://... or yarn")
        if foreign := sorted(name for name in self.conf if not name.startswith("spark.")):
            raise ValueError(f"conf has {', '.join(foreign)}, but the names of Spark's settings begin with spark.")
        return self


class Split(Section):
    """How photos are divided into train, validation and test. A change applies only to photos that have no split yet."""

    test: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """Share of the photos for the test split, which evaluates a model. No model is trained on them."""
    validation: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """Share of the photos for the validation split, which decides when training stops, and how the model answers."""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=8)] = 8
    """Two photos are near-duplicates, and get the same split, if their 64-bit perceptual hashes differ in at most this many bits."""


class Training(Section):
    """The network and how it is trained."""

    network: Literal["cnn", "transfer", "auto"] = "cnn"
    """cnn: a small convolutional network, trained from random weights. transfer: a network that others have trained on millions of
    pictures, the backbone, sees; only a small head is trained, in minutes. auto: transfer where the backbone's weights can be had, else
    cnn. [model.md](model.md#transfer) compares them."""
    backbone: NameOrFile = "EfficientNetV2B0"
    """For transfer: a name in keras.applications, or a .keras file whose network takes pixels from 0 to 255, (n, s, s, 3), and gives
    maps of features. The model then depends on the content of the file, and not on its path."""
    weights: Annotated[NameOrFile, AfterValidator(_weights)] = "imagenet"
    """For a backbone of keras.applications: imagenet (Keras downloads them once), a file of Keras with weights (.h5), or none: random
    numbers. A .keras file has weights of its own."""
    layers: tuple[str, ...] = ()
    """For transfer: names of more layers of the backbone. The mean of each of their maps becomes a feature beside those of the output:
    earlier layers see smaller things."""
    head: Literal["softmax", "ordinal"] = "ordinal"
    """For transfer: softmax: any class may be as near to another as to a third. ordinal: classes have the order of labels.classes, and
    the head decides for each but the first whether the damage is that severe."""
    components: Annotated[int, Field(ge=1, le=4096)] = 256
    """For transfer: principal components of the features that the head sees, at most."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 40
    """The largest number of passes over the training photos."""
    patience: Annotated[int, Field(ge=1)] = 10
    """Training stops after this many epochs without a better validation loss. The best weights are kept."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 8
    """Photos in each training step."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Initial learning rate of the optimizer, Adam."""
    augment: bool = True
    """Mirror, shift, brighten and darken training photos at random. transfer: also learn from other views of each photo."""
    views: tuple[Literal["mirrored", "zoomed", "compressed", "softened"], ...] = ("mirrored",)
    """For transfer with augment: the views of a training photo from which the head learns, beside the photo as it is. mirrored; zoomed: the
    middle 80 % of each side; compressed: as a JPEG of the quality 40; softened: reduced to half of each side, and enlarged again."""
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 20
    """Random seed of the initial weights, the order of the photos and the augmentation."""
    int8: bool = False
    """The model answers with 8-bit integers in place of 32-bit numbers: a smaller model with other probabilities. It is evaluated and
    judged as it answers."""
    resolution: Literal["as_is", "common"] = "as_is"
    """common: before a larger photo becomes the square that the network sees, it is brought to the median area and the median JPEG quality
    of the training photos, in training and in the served model. as_is: it is not."""

    augmentation: Literal["plain", "wide"] = "plain"
    """With augment, for cnn and for fine-tuning. plain: as augment says. wide: crop, mirror, light, blur or sharpen training photos, and
    compress them again, all at random."""
    precision: Precision = "float32"
    """For cnn and for fine-tuning: train with numbers of 16 bits, which is quicker on a GPU. Weights and answers keep 32 bits. Without a
    GPU it has no effect."""
    warm_start: Literal["off", "champion"] = "off"
    """For cnn and for fine-tuning. champion: start from the weights of the champion, if its network has the same shape. The run's tag
    warm_start says from which version."""
    fine_tune: Literal["off", "if_better"] = "off"
    """For transfer. if_better: after the head, train the upper layers of the backbone too, and keep them if they gain macro-F1 in
    cross-validation, beyond chance. See [model.md](model.md#fine-tuning)."""
    fine_tune_from: str = ""
    """Name of the layer of the backbone above which all layers learn, such as the last sum of a block."""
    fine_tune_epochs: Annotated[int, Field(ge=1, le=200)] = 4
    """The largest number of epochs of fine-tuning. Cross-validation chooses among 0 and this number."""
    fine_tune_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-4
    """Initial learning rate of the layers, for Adam."""
    fine_tune_head_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-5
    """Initial learning rate of the head on standardised features, for Adam."""
    fine_tune_mixup: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """Mix the maps and labels of two photos in shares of a Beta distribution with this parameter. 0: do not."""
    fine_tune_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of each label that is spread over all classes."""
    search_minutes: Annotated[int, Field(ge=0, le=600)] = 0
    """Minutes for a search of better settings before the training: of batch_size, learning_rate and augmentation for cnn, and of head,
    components and which of the views for transfer. Each trial is a child run in MLflow. 0: no search. See [model.md](model.md#search)."""

    @model_validator(mode="after")
    def _has_a_layer_to_tune_from(self) -> Self:
        if self.fine_tune != "off" and not self.fine_tune_from:
            raise ValueError('fine_tune_from must name a layer of the backbone with fine_tune = "if_better"')
        return self

    @property
    def files(self) -> dict[str, str]:
        """Setting -> path of each file that the network needs, or with auto may need."""
        named = {"backbone": self.backbone, "weights": self.weights} if self.network != "cnn" else {}
        return {name: path for name, path in named.items() if is_path(path)}


class Answers(Section):
    """What an answer says beside its class, when it asks for a person (see [model.md](model.md#an-answer-or-a-person)), and what follows:
    people correct answers, and the corrections train (see [reviews.md](reviews.md)).
    """

    coverage: Annotated[float, Field(ge=0.5, lt=1.0)] | Literal["cheapest"] = 0.9
    """Of the photos of each class, the share whose answer must not exclude their class. The larger it is, the more answers ask for a
    person.
    cheapest: the one from 0.8 to 0.99 with the lowest cost on the validation photos. A change takes effect with the next version."""
    review_cost: Cost = 1.0
    """The cost of one look by a person, in the unit of promotion.costs."""
    group_thresholds: bool = False
    """Fit weights of the classes for thumbnails, medium and large photos apart, for photos of a new source. A size class with fewer than 30
    validation photos, or without one of a class, stays as it is."""
    corrections: Annotated[FolderPath, Field(validate_default=True)] = f"{HOME}/corrections"
    """Folder of what people say about photos: words/ has a small file for each word, and photos/ the photos that got a class. Validation
    reads it beside the landing folder. By default the folder corrections in the home folder; if the stages run as jobs in Databricks,
    /Volumes/<databricks.catalog>/ops/corrections/. It must not lie in the landing folder."""
    keep_for_review: FolderPath | None = None
    """Folder in which the endpoint server keeps photos whose answers ask for a person, until somebody has reviewed them. It must not lie in
    the landing folder, in that of corrections or in that of requests. None: it keeps none."""
    keep_days: Annotated[int, Field(ge=1)] = 30
    """Days after which a photo goes from there although nobody has reviewed it."""
    keep_photos: Annotated[int, Field(ge=1)] = 1_000
    """Photos that are kept there at most. Further ones are dropped and counted."""
    keep_bytes: Annotated[int, Field(ge=1 << 20)] = 2 << 30
    """Bytes of these photos at most."""
    doubtful: Annotated[int, Field(ge=0)] = 100
    """Photos at most whose labels look wrong after a training, and 4 % of all. The run shows them, and people are asked about them where
    keep_for_review names a folder. 0: none."""


class Tracking(Section):
    """MLflow: runs and the model registry."""

    uri: str | None = None
    """URI of the MLflow tracking server or store. None: SQLite in the home folder."""
    registry_uri: str | None = None
    """URI of the MLflow model registry. None: the same as uri."""
    ui: str | None = None
    """Base URL of MLflow's pages, used for links. None: uri, if that is a server."""
    experiment: str = "car-damage"
    """Name of the MLflow experiment."""
    model: str = "insurance_uc.models.car_damage_classifier"
    """Name of the registered model, catalog.schema.model."""
    keep_days: Annotated[int, Field(ge=0)] = 30
    """Days for which a training stays whose model was never live. Then the run, its model and its version are removed; the decision
    and its evidence stay in the run "archive of decisions"."""
    check_environment: Literal["this", "uv"] = "this"
    """Before a model is registered, it must predict one photo in a process of its own. this: in the current environment. uv: in
    an environment that uv builds from the model's requirements, which takes minutes and needs the network. A champion that does not
    load in the current environment is judged and scores photos in one that uv builds, also with "this"."""
    check_timeout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that this process may take to load the model and predict the first photo, and again for each further photo. The same
    limit applies to building the environment with uv."""

    @property
    def champion_environment(self) -> Literal["uv", "fitting"]:
        """The environment of a version that other packages may have trained: see `car_damage.model.served.process.Environment`."""
        return "uv" if self.check_environment == "uv" else "fitting"


class Promotion(Section):
    """When a new version replaces the champion."""

    mode: Literal["automatic", "approval"] = "automatic"
    """automatic: a version that meets all conditions goes live. approval: the run ends "Awaiting approval", and a
    person takes the version live with the flow promote."""
    min_gain: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """The candidate's macro-F1 must exceed the champion's by at least this much, on the same test photos."""
    min_confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.99
    """Confidence that the first candidate after a promotion must reach. The second may be wrong with half the chance, the third with a
    third, and so on, because luck beats a champion that is challenged often enough. [promotion.md](promotion.md) has the trade-off."""
    min_test_photos: Annotated[int, Field(ge=1)] = 30
    """With fewer test photos a comparison is not reliable, and no version goes live."""
    min_test_photos_per_class: Annotated[int, Field(ge=1)] = 5
    """With fewer test photos of any class no version goes live. With 5, one photo changes the recall of its class by 20 points."""
    first_version: Literal["ahead", "any"] = "ahead"
    """ahead: a version that has no champion to beat must be ahead of always saying the same class, with the confidence above.
    any: it needs only the test photos and the floors. Choose it to try out the service with a model that has learnt nothing."""
    recall_floor: dict[str, Share] = {"major": 0.3}
    """Minimum recall of a class on the test photos. A version below it does not go live, even if it is the first."""
    group_floor: Share = 0.0
    """Minimum macro-F1 on each group of test photos: a size class, or a folder below the class folders, with at least 30 test photos. A
    version below it does not go live, even if it is the first, nor does one if no group has 30. 0: no floor."""
    costs: dict[str, dict[str, Cost]] = {
        "major": {"minor": 10.0, "moderate": 4.0},
        "moderate": {"minor": 3.0, "major": 1.0},
        "minor": {"moderate": 1.0, "major": 2.0},
    }
    """The cost of each kind of mistake, in any unit: true class -> predicted class -> cost. A mistake that is not listed costs 1."""
    max_cost_rise: Cost = 0.0
    """The candidate's average cost of mistakes per test photo may be at most this much higher than the champion's."""
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = 50_000
    """Number of random exchanges of both models' answers from which the confidence is computed. It limits the confidence that can be shown:
    the confidence asked for stops rising when two exchanges in all may gain as much as the candidate."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Random seed of the resamples. It makes a decision reproducible."""

    @model_validator(mode="after")
    def _can_show_the_confidence(self) -> "Promotion":
        needed = math.ceil(2 / (1 - self.min_confidence) - 1)
        if self.resamples < needed:
            raise ValueError(f"promotion.resamples must be at least {needed} to show promotion.min_confidence = {self.min_confidence}")
        return self


class Scoring(Section):
    """The photos that the flow score predicts. It does not use the endpoint."""

    source: str = ""
    """A folder, or a table with a column path, as catalog.schema.table. Empty: the landing folder."""
    claims: Literal["column", "folder"] = "column"
    """Which claim a photo belongs to. column: what a table says in its column claim, if it has one. folder: also the name of the first
    folder below the source. [claims.md](claims.md) has the rule by which photos become the answer for a claim."""
    chunk: Annotated[int, Field(ge=1, le=1_000_000)] = 5_000
    """Predictions are written after each chunk of this many photos, so a run that is killed loses at most one chunk. Spark writes after
    each twentieth of the photos, but at least 64 tasks."""


class Serving(Section):
    """The endpoint that serves the champion."""

    endpoint: str = "car_damage_model_ep"
    """Name of the endpoint."""
    host: str | None = "http://127.0.0.1:5055"
    """Base URL of the local endpoint server, or of a workspace. "databricks" or None: the workspace of the credentials."""
    workload_size: Literal["Small", "Medium", "Large"] = "Small"
    """Provisioned concurrency, on CPU."""
    tags: dict[str, str] = {"service": "car-damage"}
    """Tags of the endpoint; Databricks groups its bill by them. Tags with other keys are left as they are."""
    inference_table: Annotated[str, Field(pattern=r"^[^.]+\.[^.]+\.[^.]+$")] | None = None
    """catalog.schema.prefix of the table in which a workspace logs each request and response, photos included. None: no logging, and
    tables.inference_log stays empty."""
    scale_to_zero: bool = True
    """Stop the model's process after some time without requests. The next request starts it again and waits for it."""
    idle_timeout: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds without a request after which the local endpoint server scales to zero. In Databricks it is 30 minutes."""
    update_timeout: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds that a new version may take to become ready."""
    poll: Annotated[float, Field(gt=0)] = 2.0
    """Seconds between two checks of an update."""
    request_timeout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that one request to the endpoint may take, including the start of an endpoint that has scaled to zero."""
    max_request_bytes: Annotated[int, Field(ge=1 << 10)] = 16 << 20
    """Largest request that the local endpoint server accepts, in bytes. Databricks accepts 16 MiB."""
    max_queue: Annotated[int, Field(ge=1)] = 64
    """Requests that may wait in the local endpoint server. Further requests get status 429."""
    max_memory_bytes: Annotated[int, Field(ge=64 << 20)] | None = None
    """Memory that a model's process may take in the local endpoint server, in bytes. One that takes more is killed and started
    again. None: half of the machine's memory, and at least 2 GiB."""


class Monitoring(Section):
    """What the endpoint notes of each request ([endpoint.md](endpoint.md#the-request-log)), when the flow monitor speaks about the live
    model, and what follows ([monitoring.md](monitoring.md)).
    """

    log_requests: bool = True
    """The local endpoint server notes requests. In Databricks an inference table does, where serving.inference_table names one."""
    log_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Seconds between two files of noted requests. A server that is killed loses the requests of these seconds."""
    log_buffer: Annotated[int, Field(ge=1 << 20)] = 32 << 20
    """Bytes of requests that may wait to be written. Further ones are dropped and counted."""
    log_folder: Annotated[FolderPath, Field(validate_default=True)] = f"{HOME}/requests"
    """Folder of these files, until their rows are in the table. By default the folder requests in the home folder. If the stages run as
    jobs in Databricks and the endpoint is the local one, name a folder on a volume that both reach. It must not lie in the landing
    folder."""
    keep_days: Annotated[int, Field(ge=0)] = 400
    """Days after which a request goes from the table of the request log. What the windows say of it stays. 0: it stays for ever."""
    cron: Annotated[str, Field(pattern=r"^\S+( \S+){4}$")] = "17 * * * *"
    """When the flow runs, as cron in UTC. `make deploy` makes it the schedule."""
    hours: Annotated[float, Field(gt=0, le=24 * 366)] = 24.0
    """Hours of a window of the request log. A window with too few rows grows by as many hours, until it has enough."""
    least_rows: Annotated[int, Field(ge=20)] = 50
    """Rows of the request log that a window has at least."""
    wait: Annotated[float, Field(ge=0)] = 3600.0
    """Seconds after the end of a window until its rows count as complete. Databricks may log a request up to an hour late."""
    windows: Annotated[int, Field(ge=1, le=100)] = 5
    """The latest windows that are looked at together."""
    speaking: Annotated[int, Field(ge=1, le=100)] = 3
    """So many of these windows must show the same, the latest one included, before monitor speaks."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Chance that a window of photos like those of the training shows any difference at all. The comparisons of a window share it."""
    least_psi: Annotated[float, Field(ge=0)] = 0.1
    """Population stability index from which a difference of brightness, sharpness, warmth, size, aspect or answers matters."""
    fall: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Fall of the macro-F1, estimated or of labelled photos, that matters."""
    review_rise: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Rise of the share of answers that ask for a person that matters."""
    refused: Share = 0.2
    """Share of photos that the model cannot use, above which a window is unusual."""
    errors: Share = 0.05
    """Share of requests that end with an error of the endpoint, above which a window is unusual."""
    throttled: Share = 0.05
    """Share of requests that are turned away with status 429, above which a window is unusual."""
    slow: Annotated[float, Field(gt=0)] | None = None
    """Milliseconds of the slowest twentieth of the answers, above which a window is unusual. None: delay is shown, and never unusual."""
    retrain: bool = True
    """Start a run of retrain when the model is worse and there are photos with labels that it has not learned from."""
    retrain_photos: Annotated[int, Field(ge=1)] = 30
    """So many of them must be there."""
    more_reviews: bool = False
    """While the live version is worse, more of its answers ask for a person: with the coverage that its latest photos need, until another
    version is live. It updates the endpoint."""

    @model_validator(mode="after")
    def _can_speak(self) -> Self:
        if self.speaking > self.windows:
            raise ValueError(
                f"speaking is {self.speaking}, and only {self.windows} windows are looked at: set it to {self.windows} or less"
            )
        return self


class Forgetting(Section):
    """What follows when a photo was forgotten, see [privacy.md](privacy.md)."""

    retrain: bool = False
    """The flow forget starts retrain if a version was trained with the photo."""


class Databricks(Section):
    """Databricks, for stages that run there as jobs."""

    stages: Literal["here", "jobs"] = "here"
    """Where validation, training and evaluation run. here: in the process of the flow run. jobs: as runs of the jobs below."""
    credentials: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    """Name of the Prefect block of type databricks-credentials. None: databricks-sdk's unified authentication finds credentials."""
    service_principal: Annotated[str, Field(min_length=1)] | None = None
    """Application id of the service principal that the worker and the jobs run as; bootstrap grants it the permissions that it
    needs. None: the user who runs bootstrap."""
    catalog: Annotated[str, Field(pattern=r"^[^./\s]+$")] = CATALOG
    """The catalog in the names of tables, model and volumes that the settings leave at their defaults, for example insurance_uc_dev."""
    bundle_target: str | None = None
    """The target of databricks.yml whose variables the jobs have that bootstrap creates. None: the variables' defaults."""
    handovers: FolderPath = "/Volumes/insurance_uc/ops/runs/"
    """Folder in which flow runs and jobs exchange requests and reports. Both write to it."""
    keep_days: Annotated[int, Field(ge=2)] = 60
    """Days for which these files stay. A workspace keeps the runs of its jobs for 60 days."""
    wheels: FolderPath = "/Volumes/insurance_uc/ops/wheels/"
    """Folder to which bootstrap uploads the wheel that the jobs install."""
    ingest_job: str = "car-damage-ingest"
    """Name of the job that validates photos and writes the silver table."""
    train_job: str = "car-damage-train"
    """Name of the job that trains a model and evaluates it, and has a photo forgotten."""
    score_job: str = "car-damage-score"
    """Name of the job that predicts many photos at once."""
    monitor_job: str = "car-damage-monitor"
    """Name of the job that compares the request log with the training."""
    approval_job: str = "car-damage-approval"
    """Name of the job by which a person approves a version on its page. It is needed only if promotion.mode is approval."""
    app: Annotated[str, Field(pattern=r"^[a-z0-9-]{2,30}$")] | None = None
    """Name of the Databricks App with the endpoint's page and its review desk, which bootstrap creates and deploys. None: there is none."""
    quality_monitors: bool = False
    """Whether bootstrap attaches Databricks' data profiling (formerly Lakehouse Monitoring) to tables.inference_log and tables.silver.
    It needs tables.names = "catalog"."""
    quality_schedule: Annotated[str, Field(pattern=r"^\S+( \S+){5,6}$")] = "0 30 5 * * ?"
    """When these monitors compute their metrics, as Quartz cron in UTC. It begins with the seconds."""
    quality_emails: Annotated[tuple[Annotated[str, Field(pattern=r"^\S+@\S+$")], ...], Field(max_length=5)] = ()
    """Mail addresses that Databricks tells when that fails. Empty: bootstrap leaves those of a monitor as they are."""
    quality_folder: FolderPath = "/Workspace/Shared/car-damage-quality/"
    """Folder of the workspace for the dashboards of the monitors that bootstrap makes. By it doctor knows them if they are switched off."""
    compute: Literal["serverless", "job_cluster", "existing_cluster"] = "serverless"
    """The compute of the jobs that bootstrap creates. serverless: Databricks' serverless compute. job_cluster: a new cluster for
    each run, for workspaces without serverless compute. existing_cluster: a cluster that already exists, for development."""
    spark_version: Annotated[str, Field(pattern=r"^\S+$")] = "17.3.x-scala2.13"
    """Databricks Runtime version of the job clusters. It must have Python 3.11 or later."""
    node_type: Annotated[str, Field(pattern=r"^\S+$")] | None = None
    """Node type of the job clusters, for example m5d.xlarge or Standard_D4ds_v5. None: the cluster policy sets it."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Number of workers of a job cluster. 0: a single node, which is enough unless the landing folder is very large. None: the number
    or the autoscaling of the cluster policy; without a policy, a single node."""
    cluster_policy: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")] | None = None
    """Id of the cluster policy of the job clusters. Its default and fixed values apply to everything that is not set here."""
    package_index: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")] | None = None
    """URL of the package index from which the jobs install, without credentials. None: the workspace's default index."""
    existing_cluster: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    """Id of the existing cluster, for example 0923-164208-meows279. Its access mode must be dedicated to the identity of the jobs."""
    warehouse: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")] | None = None
    """Id of the SQL warehouse by which `car-damage status` counts the rows of the tables, for example 4a1b2c3d4e5f6071. None: it only
    says whether the tables exist, because only the jobs can open them."""
    poll: Annotated[float, Field(gt=0)] = 10.0
    """Seconds between two checks of a job run."""
    patience: Annotated[float, Field(ge=0)] = 900.0
    """Seconds for which the workspace may be unreachable while a flow run waits for a job run."""

    @property
    def jobs(self) -> dict[Job, str]:
        """The name of each job that does stages."""
        return {"ingest": self.ingest_job, "train": self.train_job, "score": self.score_job, "monitor": self.monitor_job}

    @model_validator(mode="after")
    def _one_compute(self) -> Self:
        if self.compute == "job_cluster" and not (self.node_type or self.cluster_policy):
            raise ValueError("compute job_cluster needs node_type, or a cluster_policy that sets it")
        if self.compute == "existing_cluster" and not self.existing_cluster:
            raise ValueError("compute existing_cluster needs the cluster's id in existing_cluster")
        owners = dict.fromkeys(("node_type", "workers", "cluster_policy"), "job_cluster") | {"existing_cluster": "existing_cluster"}
        for name, owner in owners.items():
            if getattr(self, name) and self.compute != owner:
                raise ValueError(f"{name} is only for compute {owner}, but compute is {self.compute}: remove {name}, or change compute")
        return self


class Workers(Section):
    """Where flow runs start: the work pool car-damage, and the image and the code of its runs."""

    pool: Literal["process", "docker", "kubernetes"] = "process"
    """Type of the work pool. process: a flow run is a process on its worker's machine. docker: a container of the image below.
    kubernetes: a job of this image. deployments/containers/Dockerfile builds the image."""
    image: Annotated[str, Field(pattern=r"^\S+$")] = "car-damage"
    """Image of the containers in which flow runs start, for docker and kubernetes."""
    code: Annotated[str, Field(pattern=r"^/")] | None = None
    """Folder that holds the code where a flow run starts. None: /opt/car-damage, where the image has it; for process, the checkout from
    which it is deployed."""


class Stack(Section):
    """Ports on 127.0.0.1 of the servers that `make up` starts. The port of the endpoint is in serving.host."""

    prefect_port: Annotated[int, Field(ge=1, le=65535)] = 4200
    """Port of the Prefect server and its UI."""
    mlflow_port: Annotated[int, Field(ge=1, le=65535)] = 5000
    """Port of MLflow's UI."""


class Doorbell(Section):
    """When new photos start a run."""

    quiet: Annotated[float, Field(gt=0, le=3600)] = 3.0
    """Seconds without a change in the landing folder after which `make watch` starts a run. The flow watch-landing waits
    until two listings in a row are equal instead."""
    repeat_after: Annotated[float, Field(ge=60)] = 300.0
    """Seconds after which new photos are announced again if no run has started."""


class Alerts(Section):
    """When a person is notified, and how."""

    notify: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None = None
    """The Prefect notification block, as type/name: slack-webhook/car-damage. None: no notifications."""
    kept_in_a_row: Annotated[int, Field(ge=2)] = 5
    """Notify after this many runs in a row without a version better than the champion."""
    rejected_share: Share = 0.3
    """Notify if more than this share of a run's new files cannot be used."""
    rejected_files: Annotated[int, Field(ge=1)] = 10
    """Ignore rejected_share in runs with fewer new files than this."""
    late_after: Annotated[float, Field(ge=60)] = 900.0
    """Notify if a run has not started this many seconds after its scheduled time."""
    zombie_after: Annotated[float, Field(ge=90)] = 120.0
    """Seconds without a heartbeat (sent every 30 s) after which a run counts as lost and is started again."""


def config_file() -> Path | None:
    """The settings file of this process: the one that `CAR_DAMAGE_CONFIG` names, or car-damage.toml in the current folder; else None."""
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    here = Path(CONFIG_FILE)
    return here if here.is_file() else None


def listed_below(path: str, folder: str) -> bool:
    """Whether a listing of the folder has the files of this path. It has none whose names begin with _ or a dot, nor those of such folders.

    Args:
        path: absolute.
        folder: absolute, with a slash at the end.
    """
    below = path.removeprefix(folder).split("/")
    return path.startswith(folder) and not any(name[:1] in {".", "_"} for name in below if name)


_UNUSABLE = re.compile(r"[\[\]^|\\?]|%[0-9A-Fa-f]{2}")
"""What no path of the home folder or of a table may have: delta-rs 1.6 panics or reads it as an escape, and MLflow's address of SQLite ends
at ?."""
_UNQUOTED = re.compile(r"(?<![:\w\\]):\w|'.*\"|\".*'")
"""What the home folder's path may not have besides, because MLflow 3.17 writes it into a statement of SQL."""


def _volume(path: str) -> str:
    """A path with its catalog, schema and volume in lower case. Names below a volume keep their case."""
    parts = path.split("/")
    return "/".join(part.lower() if 2 <= at <= 4 else part for at, part in enumerate(parts)) if parts[:2] == ["", "Volumes"] else path


class Settings(BaseSettings):
    """All settings of one target."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    home: AbsolutePath = Path(HOME)
    """Folder for all data of the local target: tables/, mlflow.db, artifacts/, endpoint/, corrections/, requests/, logs/. It may be moved,
    copied and mounted elsewhere while nothing uses it."""
    landing: Landing = Landing()
    labels: Labels = Labels()
    images: Images = Images()
    tables: Tables = Tables()
    spark: Spark = Spark()
    split: Split = Split()
    training: Training = Training()
    answers: Answers = Answers()
    tracking: Tracking = Tracking()
    promotion: Promotion = Promotion()
    scoring: Scoring = Scoring()
    serving: Serving = Serving()
    monitoring: Monitoring = Monitoring()
    forgetting: Forgetting = Forgetting()
    doorbell: Doorbell = Doorbell()
    alerts: Alerts = Alerts()
    databricks: Databricks = Databricks()
    workers: Workers = Workers()
    stack: Stack = Stack()

    @property
    def jobs(self) -> dict[str, str]:
        """The name of each Databricks job that the service needs, by its key in databricks.yml."""
        jobs: dict[str, str] = dict(self.databricks.jobs.items())
        return jobs | {"approval": self.databricks.approval_job} if self.promotion.mode == "approval" else jobs

    @model_validator(mode="before")
    @classmethod
    def _folders(cls, data: Any) -> Any:
        """The defaults of some folders depend on other sections."""
        databricks, home = data.get("databricks", {}), data.get("home", HOME)
        if not isinstance(home, str | Path):
            return data
        given = databricks if isinstance(databricks, dict) else dict(databricks) if isinstance(databricks, Databricks) else {}
        jobs, catalog = given.get("stages") == "jobs", given.get("catalog", CATALOG)
        defaults = {
            ("landing", "folder"): _LANDING.format(catalog) if jobs else str(Path(home) / "landing"),
            ("answers", "corrections"): _CORRECTIONS.format(catalog) if jobs else str(Path(home) / "corrections"),
            ("monitoring", "log_folder"): str(Path(home) / "requests"),
        }
        there = {section: data.get(section, {}) for section, _ in defaults}
        unset = {section: {name: path, **there[section]} for (section, name), path in defaults.items() if isinstance(there[section], dict)}
        return {**data, **unset}

    @model_validator(mode="after")
    def _profiled(self) -> Self:
        if self.databricks.quality_monitors and self.tables.names != "catalog":
            raise ValueError('databricks.quality_monitors needs tables.names = "catalog": Databricks profiles tables in Unity Catalog only')
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        here = str(self.home) if self.tables.names == "folders" or self.tracking.uri is None else ""
        if mark := _UNUSABLE.search(here) or _UNQUOTED.search(here):
            raise ValueError(
                f"home is {here}, and delta-rs or MLflow does not find a path with {mark[0]} again: set home (CAR_DAMAGE_HOME) to a folder "
                "without [ ] ^ | \\ ?, % before two digits, : before a word, and two kinds of quotes"
            )
        folders = {"landing.folder": self.landing.folder, "answers.corrections": self.answers.corrections}
        for name, path in {"home": str(self.home), **folders}.items():
            if any("\ud800" <= letter <= "\udfff" for letter in path):  # as Python writes such bytes
                raise ValueError(f"{name} is {path!r}, and tables and databases keep only paths in UTF-8: rename the folder")
        table = self.labels.table or ".csv"
        where = "" if self.tables.engine == "spark" or table.lower().endswith(".csv") else str(Path(table).expanduser().absolute())
        if mark := _UNUSABLE.search(where):
            raise ValueError(f"labels.table is {table}, and delta-rs finds no table at a path with {mark[0]}: move it, or name a .csv file")
        if self.tables.names == "catalog" and self.tables.engine != "spark":
            raise ValueError('tables.names = "catalog" needs tables.engine = "spark": delta-rs stores tables in folders only')
        if self.serving.inference_table and urlsplit(self.serving.host or "").scheme == "http":
            raise ValueError(
                "serving.inference_table needs an endpoint in a workspace: the local endpoint server has monitoring.log_requests"
            )
        if self.workers.pool == "kubernetes" and urlsplit(self.serving.host or "").hostname in {"127.0.0.1", "localhost", "::1"}:
            raise ValueError(
                f'workers.pool = "kubernetes" needs an endpoint that a pod reaches, and serving.host is {self.serving.host}: '
                'set serving.host = "databricks"'
            )
        if self.databricks.stages == "jobs":
            for setting in ("uri", "registry_uri"):
                if urlsplit(getattr(self.tracking, setting) or "").password:
                    raise ValueError(
                        f'tracking.{setting} must not contain a password if databricks.stages = "jobs": jobs read it from a file'
                    )
        costs = self.promotion.costs
        named = {
            "recall_floor": set(self.promotion.recall_floor),
            "costs": {*costs, *(predicted for row in costs.values() for predicted in row)},
        }
        for setting, names in named.items():
            if unknown := sorted(names - set(self.labels.classes)):
                raise ValueError(
                    f"promotion.{setting} names {', '.join(unknown)}, which is not among labels.classes {', '.join(self.labels.classes)}; "
                    "set it for these classes"
                )
        return self

    @model_validator(mode="after")
    def _apart(self) -> Self:
        """No folder of ours lies where photos land, or in another one of ours."""
        folders = {
            "landing.folder": self.landing.folder,
            "answers.corrections": self.answers.corrections,
            "answers.keep_for_review": self.answers.keep_for_review,
            "monitoring.log_folder": self.monitoring.log_folder,
        }
        for (other, there), (name, path) in combinations(folders.items(), 2):
            if path and there and (there.startswith(path) or listed_below(path, there)):
                raise ValueError(f"{name} is {path}, and {other} is {there}: neither may lie in the other; set {name} to another folder")
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
        """The environment overrides the file. Neither a .env file nor a secrets folder is read, so a value has few possible origins."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())

    @model_validator(mode="after")
    def _in_the_catalog(self) -> Self:
        """Default names are in the catalog that the settings name."""
        names = {"tables": TABLES, "tracking": ("model",), "databricks": ("handovers", "wheels")}
        for section, fields in names.items():
            unset = [name for name in fields if name not in getattr(self, section).model_fields_set]
            self._change(section, unset, lambda name: name.replace(CATALOG, self.databricks.catalog, 1))
        return self

    @model_validator(mode="after")
    def _as_unity_catalog_stores_names(self) -> Self:
        """Fold names of Unity Catalog to lower case: it stores them so, and a name in its answers must equal that of the settings."""
        catalog, jobs = self.tables.names == "catalog", self.databricks.stages == "jobs"
        self._change("tables", TABLES if catalog else [], str.lower)
        self._change("tracking", ["model"] if self.registry_uri.startswith("databricks-uc") else [], str.lower)
        self._change("serving", ["inference_table"], str.lower)
        self._change("landing", ["folder"] if catalog or jobs else [], _volume)
        self._change("answers", ["corrections", "keep_for_review"] if catalog or jobs else [], _volume)
        self._change("monitoring", ["log_folder"] if catalog or jobs else [], _volume)
        self._change("databricks", ["handovers", "wheels"] if jobs else [], _volume)
        return self

    def _change(self, section: str, names: Iterable[str], change: Callable[[str], str]) -> None:
        there = getattr(self, section)
        changed = {name: change(value) for name in names if (value := getattr(there, name)) and change(value) != value}
        if changed:
            self.__dict__[section] = there.model_copy(update=changed)  # not an assignment, because settings are frozen

    @property
    def tracking_uri(self) -> str:
        """URI of the tracking store: the setting, or SQLite in the home folder."""
        return self.tracking.uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def registry_uri(self) -> str:
        """URI of the model registry: the setting, or the tracking store."""
        return self.tracking.registry_uri or self.tracking_uri
