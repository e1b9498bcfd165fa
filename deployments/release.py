"""Which code is deployed: the package's version and a digest of what a run is made of.

A build step of prefect.yaml (`{{ release.version }}`), and what `doctor` holds the server's deployments against.
"""

import hashlib
from pathlib import Path

from car_damage import __version__

ROOT = Path(__file__).parents[1]
_FLOORS = ("car_damage", "tasks", "flows")
_DIGITS = 10


def version() -> str:
    """`0.1.0+3f2a91bc07`: equal where prefect.yaml and the code of the flows, tasks and library are equal."""
    digest = hashlib.sha256()
    for path in [ROOT / "prefect.yaml", *sorted(path for floor in _FLOORS for path in (ROOT / floor).rglob("*.py"))]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:_DIGITS]}"


def release() -> dict[str, str]:
    """The build step: what prefect.yaml may say as `{{ release.<name> }}`."""
    return {"version": version()}
