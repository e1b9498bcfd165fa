"""What is fuzzed: the decoder, labels and request bodies. Each target takes any bytes, and may raise nothing but what it catches.

`python -m tests.fuzz.targets TARGET [OPTIONS OF LIBFUZZER] [FILES]` runs one.
"""

import asyncio
import contextlib
import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def photo(data: bytes) -> None:
    """The verdict is one of the closed list, and a valid photo can be decoded, hashed, prepared for a model and drawn."""
    from car_damage.photo import decoder, reasons
    from car_damage.photo.limits import Limits
    from car_damage.photo.preparation import Preparation
    from car_damage.photo.thumbnails import thumbnail

    limits = Limits(max_pixels=4_000_000)
    found = decoder.inspect(data, limits)
    assert found.valid == (found.phash is not None) == (found.reason is None)
    assert found.valid or found.reason in reasons.PHOTO_REASONS
    assert not found.valid or thumbnail(data, limits)
    assert not found.valid or decoder.decode(data, limits, Preparation(20_000, 60))


def labels(data: bytes) -> None:
    """A table is read or refused, and any path has a label or a reason."""
    from car_damage.data.photos.labels import Labeller, parse_table
    from car_damage.errors import SettingsError
    from car_damage.settings import Labels

    try:
        table = parse_table(data)
        labellers = [Labeller(Labels(source="table", table="labels.csv"), "/landing", table)]
    except SettingsError:
        labellers = []
    labellers += [Labeller(Labels(source=source), "/landing") for source in ("folder", "file_name")]
    path = "/landing/" + data.decode("utf-8", "surrogateescape")
    for labeller in labellers:
        result = labeller.label(path)
        assert (result.label is None) != (result.reason is None)


def body(data: bytes) -> None:
    """A body of the API is read or refused. A request for predictions is answered, or refused as the caller's mistake."""
    from car_damage.server.errors import ApiError
    from car_damage.server.requests import Config, NewEndpoint, parse

    for kind in (NewEndpoint, Config):
        with contextlib.suppress(ApiError):
            parse(kind, data)
    loop, scoring = _scoring()
    response = loop.run_until_complete(scoring.answer("text/csv" if data.startswith(b"image") else "application/json", data))
    assert response.status in {200, 400, 415}, response


TARGETS: dict[str, Callable[[bytes], None]] = {target.__name__: target for target in (photo, labels, body)}


@functools.cache
def _scoring() -> tuple[asyncio.AbstractEventLoop, Any]:
    """A loop, and a scoring in it whose model has no network: a request reaches what it reaches in a model's process, but TensorFlow."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    from car_damage.model.served.scoring import Scoring

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model")
        mlflow.pyfunc.save_model(
            model,
            python_model=str(Path(__file__).with_name("rows.py")),
            signature=ModelSignature(Schema([ColSpec("string", "image")])),
            pip_requirements=["mlflow"],
        )
        return asyncio.new_event_loop(), Scoring(mlflow.pyfunc.load_model(str(model)))


def main() -> None:
    """Fuzz one target. The modules are instrumented while they are imported, so they are imported here."""
    import atheris

    target = TARGETS[sys.argv.pop(1)]
    with atheris.instrument_imports(include=["car_damage"]):
        target(b"")
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
