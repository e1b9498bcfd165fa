"""Environments in which a model may run: this one, or one of its own requirements, which uv builds."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from car_damage.errors import ModelRefused, Terminal

TAIL = 4000
"""Characters of a process' output in an error message, at most."""

_ALLOWED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_ALLOWED_PREFIXES = ("LC_", "TF_", "PYTHON", "OPENBLAS", "OMP", "SSL_CERT_", "UV_")


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables for a model's process: the paths of programs and certificates, and numbers of threads; no credentials."""
    return {name: value for name, value in environment.items() if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)} | {
        "TF_CPP_MIN_LOG_LEVEL": environment.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def has_uv() -> bool:
    """Whether an environment can be built: the program uv is on the PATH."""
    return shutil.which("uv") is not None


def build(model: Path, into: Path, timeout: float) -> str:
    """Let uv create an environment with the model's Python version and requirements; returns the path of its Python.

    Args:
        model: the folder of a saved MLflow model.
        into: a folder that does not exist.
        timeout: seconds for each of the two steps.

    Raises:
        ModelRefused: uv cannot build it, or takes too long.
        Terminal: uv is not installed.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise Terminal("an environment of a model's own requirements needs the program uv, which is not on the PATH: install it")
    python = str(into / "bin" / "python")
    requirements = str(model.absolute() / "requirements.txt")
    for command in (
        [uv, "venv", "--python", _python_version(model), str(into)],
        [uv, "pip", "install", "--python", python, "--requirements", requirements],
    ):
        try:
            subprocess.run(command, check=True, env=scrubbed(os.environ), capture_output=True, text=True, timeout=timeout)
        except subprocess.CalledProcessError as error:
            raise ModelRefused(f"uv could not build the environment of the model in {model}: {error.stderr[-TAIL:]}") from error
        except subprocess.TimeoutExpired as error:
            raise ModelRefused(f"uv took longer than {timeout:g} seconds to build the environment of the model in {model}") from error
    return python


def _python_version(model: Path) -> str:
    """Such as 3.11. Any patch of it will do, and the one that is here needs no download."""
    lines = (model / "python_env.yaml").read_text().splitlines()
    version = next(line.partition(":")[2].strip() for line in lines if line.startswith("python:"))
    return ".".join(version.split(".")[:2])
