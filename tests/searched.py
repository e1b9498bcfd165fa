"""Searches all files of a folder for what must not be there: as bytes, in the rows and statistics of Parquet files, and in base64."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def found(folder: Path, wanted: Mapping[str, bytes], but: tuple[str, ...] = ()) -> list[str]:
    """What was found where.

    Args:
        folder: all files below it are searched, hidden ones too.
        wanted: name -> bytes.
        but: names of folders in it that are not searched.
    """
    forms = {name: {data, base64.b64encode(data)} for name, data in wanted.items()}
    return [
        f"{name} in {path.relative_to(folder)}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not set(path.relative_to(folder).parts) & set(but)
        for name in _in(path, forms)
    ]


def _in(path: Path, forms: Mapping[str, set[bytes]]) -> list[str]:
    data = path.read_bytes() + _unpacked(path)
    return [name for name, some in forms.items() if any(one in data for one in some)]


def _unpacked(path: Path) -> bytes:
    """Rows and statistics of a Parquet file, which may be compressed."""
    if path.suffix != ".parquet":
        return b""
    try:
        file = pq.ParquetFile(path)
        return json.dumps([file.read().to_pylist(), file.metadata.to_dict()], default=str).encode()
    except (pa.ArrowException, OSError):
        return b""
