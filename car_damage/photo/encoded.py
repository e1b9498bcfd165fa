"""Photos in base64, as requests carry them.

Every registered model contains a copy of this module, so it imports only Python's own.
"""

import base64
import binascii
import contextlib


def decoded(text: str) -> bytes:
    """The bytes of base64 text, in each form that programs write: with the alphabet for URLs and without padding (RFC 4648, 5), in lines
    (RFC 2045), and as a data URI (RFC 2397).

    Raises:
        ValueError: the text is none of these.
    """
    with contextlib.suppress(ValueError):  # most programs write plain base64
        return binascii.a2b_base64(text, strict_mode=True)
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise ValueError("a data URI that says so is needed, such as data:image/jpeg;base64,...")
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
