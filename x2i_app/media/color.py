"""Color management: embedded ICC profiles, and the colors that PNG, HEIC and AVIF files name by number, to sRGB."""

import io
import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE = 4 * 2**20  # bytes; printing profiles have up to about 3 MB
# The modes of images for each color space of a profile.
_MODES = {"RGB ": ("RGB",), "GRAY": ("L",), "CMYK": ("CMYK",), "Lab ": ("LAB",)}
CICP = "cicp"  # key in an image's `info`: (primaries, transfer), numbers of ITU-T H.273

Curve = Callable[[np.ndarray], np.ndarray]  # encoded levels in 0..1 -> linear light, 1 is white


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert an 8-bit image to sRGB from its embedded profile, or its named colors; its transparency is kept.

    Returns the image unchanged if it has neither, if they are sRGB, or a profile is damaged or for other colors.
    """
    content = image.info.get("icc_profile") or _named_profile(image)
    if not content or len(content) > MAX_PROFILE:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        colors, alpha = _split_alpha(image)
        if colors.mode not in _MODES.get(profile.profile.xcolor_space, ()) or _is_srgb(profile, colors.mode):
            return image
        converted = _convert(colors, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if alpha:
        converted.putalpha(alpha)
    return converted


def _convert(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    return ImageCms.profileToProfile(
        image,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _is_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> bool:
    """Whether the profile changes no color. Its name says nothing: linear profiles are called sRGB too."""
    if mode != "RGB":
        return False
    levels = np.arange(0, 256, 51, np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    changed = np.asarray(_convert(Image.fromarray(colors), profile))
    return int(np.abs(changed.astype(int) - colors).max()) <= 2


def _split_alpha(image):
    """The colors of an image as L, RGB, CMYK or LAB, and its alpha channel or None."""
    is_gray = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("LA" if is_gray and image.mode != "1" else "RGBA")
        alpha = image.getchannel("A")
        return image.convert("L" if is_gray else "RGB"), alpha
    if image.mode in ("RGB", "L", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if is_gray else "RGB"), None


# Colors by numbers. (x, y) of red, green, blue and white, from ITU-T H.273, table 2.
_D65 = (0.3127, 0.3290)
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
_PRIMARIES = {
    1: _BT709,
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),  # BT.2020
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),  # DCI-P3
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),  # Display P3
}
_SRGB, _PQ, _HLG = 13, 16, 18
_AS_SRGB = (1, 2, 6, 14, 15, _SRGB)  # cameras' curves are shown on sRGB displays as they are
_REFERENCE_WHITE = 203  # cd/m2 of diffuse white in HDR (ITU-R BT.2408)


def _named_profile(image: Image.Image) -> bytes | None:
    """A profile for the colors that a file names: by `cICP` or `nclx` numbers, or by a PNG's gAMA and cHRM."""
    if image.mode not in ("RGB", "RGBA", "RGBX", "P", "PA"):
        return None
    if named := image.info.get(CICP):
        return _profile_of_numbers(*named)
    gamma, points = image.info.get("gamma"), image.info.get("chromaticity")
    if "srgb" in image.info or not gamma:
        return None
    primaries = _BT709
    if points and len(points) == 8:
        white, red, green, blue = zip(points[::2], points[1::2], strict=True)
        primaries = (red, green, blue, white)
    if not 0.1 <= gamma <= 5 or (abs(gamma - 1 / 2.2) < 0.01 and primaries is _BT709):
        return None
    # 1 / 2.2 stands for sRGB's own curve, as in browsers.
    curve = _srgb_curve if abs(gamma - 1 / 2.2) < 0.01 else lambda levels: levels ** (1 / gamma)
    return build_profile(primaries, curve)


@lru_cache(16)
def _profile_of_numbers(primaries: int, transfer: int) -> bytes | None:
    if _PRIMARIES.get(primaries, _BT709) is _BT709 and transfer in _AS_SRGB:
        return None
    curves: dict[int, Curve] = {
        4: lambda levels: levels**2.2,
        5: lambda levels: levels**2.8,
        8: lambda levels: levels,
        _PQ: _pq_curve,
        _HLG: _hlg_curve,
    }
    return build_profile(_PRIMARIES.get(primaries, _BT709), curves.get(transfer, _srgb_curve))


def _srgb_curve(levels: np.ndarray) -> np.ndarray:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _pq_curve(levels: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, with highlights rolled off."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = levels ** (1 / m2)
    return _roll_off(10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) / _REFERENCE_WHITE)


def _hlg_curve(levels: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 for a display of 1,000 cd/m2, with highlights rolled off."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(levels <= 0.5, levels**2 / 3, (np.exp((levels - c) / a) + b) / 12)
    return _roll_off(1000 * scene**1.2 / _REFERENCE_WHITE)


def _roll_off(light: np.ndarray) -> np.ndarray:
    """Light brighter than white squeezed into the last fifth below it; the rest stays."""
    knee = 0.8
    return np.where(light <= knee, light, knee + (1 - knee) * (1 - np.exp(-(light - knee) / (1 - knee))))


def build_profile(primaries: tuple[tuple[float, float], ...], curve: Curve) -> bytes:
    """An ICC profile (version 2) of RGB colors.

    primaries: chromaticities (x, y) of red, green, blue and white. curve: from levels to linear light.
    Raises ValueError for primaries that are no triangle.
    """
    xyz = np.array([[x / y, 1, (1 - x - y) / y] if y else [0, 0, 0] for x, y in primaries]).T
    try:
        matrix = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
    except np.linalg.LinAlgError as error:
        raise ValueError("primaries that are no triangle") from error
    # Bradford adaptation to the profile's white, D50.
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapted = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ xyz[:, 3])) @ bradford @ matrix
    table = np.round(65535 * curve(np.linspace(0, 1, 4096)).clip(0, 1)).astype(">u2").tobytes()
    trc = b"curv\0\0\0\0" + struct.pack(">I", 4096) + table
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(79), b"wtpt": _xyz(d50)}
    tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted.T, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), trc)
    data, rows, offset = b"", struct.pack(">I", len(tags)), 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        rows += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s12s4s", offset + len(data), b"", 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"", b"acsp")
    return head.ljust(68, b"\0") + _xyz(d50)[8:] + bytes(48) + rows + data


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * float(value)) for value in values))
