"""The example photo of a model, in two JSON files of its folder: MLflow tries a model with it, and so does the endpoint server."""

import base64
import binascii
import hashlib
import io
import re

from car_damage.traces.sought import SoughtPhoto

FILES = ("input_example.json", "serving_input_example.json")
_PHOTO = re.compile(rb'"((?:[A-Za-z0-9+/]|\\/){40,}={0,2})"')
"""Base64 in JSON, which may escape a slash."""
_SIDE = 256


def shows(data: bytes, sought: SoughtPhoto) -> bool:
    """Whether a file of an example has the photo."""
    return any(_is(found, sought) for found in _PHOTO.findall(data))


def with_another(data: bytes, photo: bytes) -> bytes:
    """The file with another photo in the place of each that it has."""
    return _PHOTO.sub(b'"' + base64.b64encode(photo) + b'"', data)


def drawn() -> bytes:
    """A picture that shows nothing, as JPEG."""
    from PIL import Image

    out = io.BytesIO()
    Image.linear_gradient("L").resize((_SIDE, _SIDE)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def _is(text: bytes, sought: SoughtPhoto) -> bool:
    try:
        return sought.holds(hashlib.sha256(base64.b64decode(text.replace(b"\\", b""))).hexdigest())
    except binascii.Error:  # letters without a photo in them
        return False
