"""Versions of Python packages: those of this environment, and those that a model names in its requirements.

The code that decodes, trains and answers calls TensorFlow, Keras, ONNX Runtime, Pillow and pi-heif, and another minor version of one may
make another model from the same photos. Only the machine that trains knows these versions: a worker that starts Databricks jobs has no
TensorFlow. So they are no part of the key that a flow run computes. They are read where a training has noted them.
"""

from collections.abc import Mapping
from importlib import metadata

TRAINING = ("tensorflow", "keras", "onnxruntime", "pillow", "pi-heif")
"""The packages whose minor version changes a model."""
SEEING = ("onnxruntime", "pillow", "pi-heif")
"""Those of them that decode a photo and compute what a backbone sees in it."""
TENSORFLOW_BUILDS = ("tensorflow", "tensorflow-cpu", "tensorflow-intel")
"""The names of the package TensorFlow, which has one version under all of them."""


def installed(package: str) -> str | None:
    """The version in this environment; None where the package is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def tensorflow() -> str | None:
    """The name under which TensorFlow is installed here; None where it is not."""
    return next((build for build in TENSORFLOW_BUILDS if installed(build)), None)


def that_train_here() -> dict[str, str]:
    """Package -> minor version, such as 2.21, for those packages of TRAINING that this environment has."""
    return {package: _minor(version) for package in TRAINING if (version := _here(package))}


def that_train_here_exactly() -> str:
    """A line for each package of TRAINING that this environment has, such as keras==3.15.1. `trained_with` reads it."""
    return "\n".join(f"{package}=={version}" for package in TRAINING if (version := _here(package)))


def trained_with(requirements: str, packages: Mapping[str, str]) -> bool:
    """Whether a model with these requirements was trained with these packages. What only one of the two names counts as the same.

    Args:
        requirements: the text of a requirements.txt, or of `that_train_here_exactly`.
        packages: package -> minor version.
    """
    pinned = _pinned(requirements)
    return all(_minor(pinned.get(package, minor)) == minor for package, minor in packages.items())


Versions = dict[str, tuple[str, str]]
"""Package -> the version that a model names, and the one that is installed here."""


def differing(requirements: str) -> Versions:
    """The packages whose exact version is not the same here."""
    versions = {package: (version, _here(package) or "not installed") for package, version in _pinned(requirements).items()}
    return {package: both for package, both in versions.items() if both[0] != both[1]}


def told(versions: Versions) -> str:
    """Both versions of each package, for a person."""
    return ", ".join(f"{package} {needed} (here {here})" for package, (needed, here) in versions.items())


def _pinned(requirements: str) -> dict[str, str]:
    """Package -> exact version. All builds of TensorFlow are called tensorflow."""
    lines = (line.partition("==") for line in requirements.splitlines())
    pinned = {name.strip(): version.strip() for name, _, version in lines if version}
    return {"tensorflow" if name in TENSORFLOW_BUILDS else name: version for name, version in pinned.items()}


def _here(package: str) -> str | None:
    return installed((tensorflow() or package) if package == "tensorflow" else package)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
