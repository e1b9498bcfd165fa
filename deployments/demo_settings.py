"""The settings of the demo: its own home folder for each folder of photos, and the file by which other commands find it."""

import hashlib
import json
import os
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from car_damage.adapters.folder import Folder, utf8
from car_damage.data.photos.labels import Labeller
from car_damage.errors import Terminal
from car_damage.machine import absolute, write_whole
from car_damage.server.address import is_local
from car_damage.settings import CONFIG_FILE, CONFIG_VARIABLE, HOME, Labels, Settings
from car_damage.settings_sources import load
from deployments.processes import free_port, port_is_free
from deployments.variables import given

LOCAL_SETTINGS = Path(__file__).parent / "settings" / "local.toml"
PLACES = (CONFIG_VARIABLE, "CAR_DAMAGE_HOME", "CAR_DAMAGE_LANDING__FOLDER")
"""The variables by which commands in another terminal find what the demo made."""


NETWORK = "CAR_DAMAGE_TRAINING__NETWORK"
_OF_OWN_PHOTOS = """
[training]
# transfer where the backbone's weights can be had, else cnn
network = "auto"
"""


def write_settings(settings: Settings, *, own: bool) -> None:
    """Write the settings file of the current folder, for photos that are somebody's own or that the demo has drawn."""
    text = settings_file(_from_here(settings.home), _from_here(Path(settings.landing.folder)), own=own)
    write_whole(Path(CONFIG_FILE), text)


def is_free() -> bool:
    """Whether the settings file and the home of the current folder are the demo's: an earlier demo wrote the file and nobody changed it,
    or there is neither. A home without a file is that of somebody's `make up`.
    """
    try:
        text = Path(CONFIG_FILE).read_text()
        document = tomllib.loads(text)
        return text in {settings_file(document["home"], document["landing"]["folder"], own=own) for own in (False, True)}
    except FileNotFoundError:
        return not (Path(HOME) / "mlflow.db").exists()
    except (ValueError, KeyError, TypeError):
        return False


def _from_here(path: Path) -> str:
    """A path in the current folder relative to it, so that the folder may be moved."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def settings_file(home: str, folder: str, *, own: bool = False) -> str:
    """The local target's settings with these folders, as TOML: commands in the current folder find the demo's tables and models by it."""
    text = LOCAL_SETTINGS.read_text()
    for key, default, value in (("home", HOME, home), ("folder", f"{HOME}/landing", folder)):
        text = text.replace(f'{key} = "{default}"', f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return text + (_OF_OWN_PHOTOS if own else "")


def demo_settings(images: Path | None) -> tuple[Settings, bool]:
    """The settings of the demo, which are also put into the environment.

    Each folder of photos has a home folder, so that two folders never mix in one table. Where a home may be somebody's, the demo takes
    a folder in it.

    Args:
        images: a folder of labelled photos, whose network is auto unless something names another. None: the demo draws some in the home
            folder, and never in the folder of somebody's photos.

    Returns:
        The settings, and whether the settings file of the current folder may name their places. Otherwise other commands need PLACES.
    """
    by_environment = bool(given().keys() & set(PLACES))
    found_by_file = not by_environment and is_free()
    file = Path(CONFIG_FILE)
    somebodys = images is not None and not found_by_file and file.exists()  # it may name other classes
    os.environ.setdefault(CONFIG_VARIABLE, str(file.absolute() if somebodys else LOCAL_SETTINGS))
    base = load()
    home = base.home if by_environment or found_by_file else base.home / "demo"
    if images is None:
        os.environ["CAR_DAMAGE_LANDING__FOLDER"] = str(home / "landing")
    else:
        folder = Path(absolute(str(images)))
        if not folder.is_dir():
            raise Terminal(
                f"IMAGES={images} is not a folder; name one with a subfolder of photos for each class, such as minor/, moderate/, major/"
            )
        _refuse_without_classes(folder, base.labels)
        home /= f"images-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
        os.environ["CAR_DAMAGE_LANDING__FOLDER"] = str(folder)
        if "network" not in base.training.model_fields_set:
            os.environ[NETWORK] = "auto"
    os.environ["CAR_DAMAGE_HOME"] = str(home)
    port = urlsplit(base.serving.host or "").port
    if not is_local(base.serving.host) or port is None or not port_is_free(port):
        os.environ["CAR_DAMAGE_SERVING__HOST"] = f"http://127.0.0.1:{free_port()}"
    return load(), found_by_file


def _refuse_without_classes(folder: Path, labels: Labels) -> None:
    """Raise Terminal if no file has a class by its folder or its name, because the run could only fail with too few photos."""
    if labels.source == "table":
        return
    here, above = (Labeller(labels, utf8(str(landing))) for landing in (folder, folder.parent))
    empty = True
    for file in Folder().list(str(folder)):
        if here.label(file.path).label:
            return
        empty = False
    classes = ", ".join(labels.classes)
    if empty:
        raise Terminal(f"there are no files below {folder}; name a folder with a subfolder of photos for each class ({classes})")
    if labels.source == "file_name":
        raise Terminal(f"no file below {folder} has a class in its name ({classes}), which labels.source requires")
    advice = "sort the photos into such folders, or map your folder names to classes in labels.aliases"
    if above.label(f"{folder}/photo").label:
        advice = f"use the parent folder: IMAGES={folder.parent}"
    raise Terminal(f"no file below {folder} is in a folder named after a class ({classes}): {advice}")
