"""The version of the deployed code: the package's version and a digest of the files that a run uses.

prefect.yaml uses it as a build step (`{{ release.version }}`), and `doctor` compares it with the deployments on the server.
"""

import hashlib
from pathlib import Path

from car_damage import __version__

ROOT = Path(__file__).parents[1]
_FLOORS = ("car_damage", "tasks", "flows")
_DIGITS = 10


def version() -> str:
    """Such as `0.1.0+3f2a91bc07`: equal if prefect.yaml and the code of the flows, tasks and library are equal."""
    digest = hashlib.sha256()
    for path in [ROOT / "prefect.yaml", *sorted(path for floor in _FLOORS for path in (ROOT / floor).rglob("*.py"))]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:_DIGITS]}"


def release() -> dict[str, str]:
    """The build step; prefect.yaml refers to its values as `{{ release.<name> }}`."""
    return {"version": version()}
