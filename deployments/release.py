"""What is deployed: the version of the code, the folder that has it where a run starts, and the image of containers.

prefect.yaml uses it as a build step (`{{ release.version }}`), and `doctor` compares it with the deployments on the server.
The version is the package's and a digest of the files that a run uses.
"""

import hashlib
from pathlib import Path

from car_damage import __version__
from car_damage.settings_sources import load

ROOT = Path(__file__).parents[1]
_FLOORS = ("car_damage", "tasks", "flows")
_DIGITS = 10
IN_THE_IMAGE = "/opt/car-damage"
"""The folder of the code in the image: deployments/containers/Dockerfile."""


def version() -> str:
    """Such as `0.1.0+3f2a91bc07`: equal if prefect.yaml and the code of the flows, tasks and library are equal."""
    digest = hashlib.sha256()
    for path in [ROOT / "prefect.yaml", *sorted(path for floor in _FLOORS for path in (ROOT / floor).rglob("*.py"))]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:_DIGITS]}"


def release() -> dict[str, str]:
    """The build step; prefect.yaml refers to its values as `{{ release.<name> }}`."""
    settings = load()
    workers = settings.workers
    return {
        "version": version(),
        "code": workers.code or (str(ROOT) if workers.pool == "process" else IN_THE_IMAGE),
        "image": workers.image,
        "monitor": settings.monitoring.cron,
    }
