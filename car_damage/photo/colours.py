"""Brings the colours of a photo to sRGB, by the ICC profile in its file. Many phones write Display P3.

Every registered model contains a copy of this module.
"""

import functools
import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

LARGEST = 1 << 20
"""Bytes of a profile. Display P3 has about 500; a larger one is ignored."""
_SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""XYZ of red, green and blue of sRGB, relative to D50 (IEC 61966-2-1, as in the profiles of the ICC)."""
_SAME = 0.01
"""A difference of XYZ that is the rounding of those who write profiles. Those of Display P3 differ by 0.09."""


def to_srgb(pixels: npt.NDArray[np.uint8], profile: bytes) -> npt.NDArray[np.uint8]:
    """The same colours in sRGB.

    Args:
        pixels: (n, m, 3) uint8, RGB.
        profile: an ICC profile; empty for none.

    Returns:
        The pixels themselves, if the profile has the primaries of sRGB, is not one of RGB by three primaries, or is broken: as it is
        no part of the picture, it is no reason to reject a photo.
    """
    if not 0 < len(profile) <= LARGEST:
        return pixels
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if not _has_other_primaries(source):
            return pixels
        converted = ImageCms.profileToProfile(Image.fromarray(pixels), source, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return pixels
    return np.array(converted)


def _has_other_primaries(profile: ImageCms.ImageCmsProfile) -> bool:
    own = profile.profile
    primaries = (own.red_colorant, own.green_colorant, own.blue_colorant)
    if own.xcolor_space.strip() != "RGB":
        return False
    found = np.array([primary[0] if primary else [np.nan] * 3 for primary in primaries])
    return bool(np.isfinite(found).all() and np.abs(found - _SRGB).max() > _SAME)


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
