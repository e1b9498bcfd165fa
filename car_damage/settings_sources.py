"""Read the settings of a process from its TOML file and its environment, and explain mistakes in them."""

import difflib
import json
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError as UnreadableVariable

from car_damage.errors import SettingsError
from car_damage.machine import keep_to_this_machine
from car_damage.settings import CONFIG_VARIABLE, PREFIX, Section, Settings, config_file


def load() -> Settings:
    """Read the settings of this process.

    Every process of this project does so first, so this also calls `machine.keep_to_this_machine`.

    Raises:
        SettingsError: the file is missing or not TOML, a key is unknown or misspelt, or a value is out of range.
    """
    keep_to_this_machine()
    config = config_file()
    if config and not config.is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} names {config}, which is not a file")
    _refuse_unknown_variables()
    try:
        return Settings()
    except UnreadableVariable as error:
        raise SettingsError(f"settings in the environment: {', '.join(_unreadable()) or error}") from error
    except ValidationError as error:
        raise SettingsError(_explain(error, config)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{config} is not TOML: {error}") from error


def _unreadable() -> list[str]:
    """One message for each variable whose value looks like JSON and is not."""
    messages = []
    for variable, value in os.environ.items():
        if not variable.upper().startswith(PREFIX):
            continue
        try:
            json.loads(value)
        except ValueError as error:
            if value.lstrip()[:1] in {"{", "["}:
                messages.append(f'{variable} is not JSON ({error}): write a table as {{"key": "value"}}, a list as ["one", "two"]')
    return messages


def _refuse_unknown_variables() -> None:
    """Raise for a variable with our prefix and an unknown name, because pydantic-settings ignores it."""
    known = set(_variables(Settings)) | {CONFIG_VARIABLE}
    for variable in os.environ:
        if not variable.upper().startswith(PREFIX) or variable.upper() in known:
            continue
        close = difflib.get_close_matches(variable.upper(), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SettingsError(f"the environment variable {variable} is not a setting{hint}")


def _variables(model: type[BaseModel], prefix: str = PREFIX) -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(f"{prefix}{name.upper()}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            names += _variables(field.annotation, f"{prefix}{name.upper()}__")
    return names


def _explain(error: ValidationError, config: Path | None) -> str:
    """One message for all problems: each key, the given value and the allowed ones."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            allowed = _allowed(problem["loc"][:-1])
            close = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
            lines.append(f"unknown setting {key}" + (f"; did you mean {close[0]}?" if close else f"; allowed: {', '.join(allowed)}"))
        else:
            given = f" (given: {problem['input']!r})" if isinstance(problem["input"], str | int | float) else ""
            lines.append(f"{key + ': ' if key else ''}{problem['msg'].removeprefix('Value error, ')}{given}")
    where = f" in {config} or the environment" if config else " in the environment"
    return f"settings{where}: " + "; ".join(lines)


def _allowed(location: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)
