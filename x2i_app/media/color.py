"""Color management: embedded ICC profiles to sRGB."""

import io

from PIL import Image, ImageCms

_MAX_PROFILE = 4 * 2**20  # bytes; printing profiles have up to about 3 MB
# The modes of images for each color space of a profile.
_MODES = {"RGB ": ("RGB",), "GRAY": ("L",), "CMYK": ("CMYK",)}


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert an 8-bit image from its embedded profile to sRGB; its transparency is kept.

    Returns the image unchanged if it has no profile, an sRGB profile, or one that is damaged or for other colors.
    """
    content = image.info.get("icc_profile")
    if not content or len(content) > _MAX_PROFILE:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        colors, alpha = _split_alpha(image)
        if colors.mode not in _MODES.get(profile.profile.xcolor_space, ()):
            return image
        converted = ImageCms.profileToProfile(
            colors,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if alpha:
        converted.putalpha(alpha)
    return converted


def _split_alpha(image):
    """The colors of an image as L, RGB or CMYK, and its alpha channel or None."""
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("LA" if is_grey and image.mode != "1" else "RGBA")
        alpha = image.getchannel("A")
        return image.convert("L" if is_grey else "RGB"), alpha
    if image.mode in ("RGB", "L", "CMYK"):
        return image, None
    return image.convert("L" if is_grey else "RGB"), None
