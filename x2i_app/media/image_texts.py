"""Texts inside image files: PNG text chunks, EXIF and XMP, written and read back from untrusted files."""

import html
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from x2i_app.media.guard import CAPS, MediaCaps, sniff
from x2i_app.media.images import open_image
from x2i_app.media.isolation import in_child
from x2i_app.media.png_texts import read_texts as read_png_texts

# The key of each text: the keyword of a PNG chunk. In other files, PARAMETERS is the EXIF user comment, where the A1111
# web UI writes it too, and SETTINGS is a property of the XMP packet.
SETTINGS, PARAMETERS = "x2i", "parameters"
COMMENT = "comment"  # the same as PARAMETERS, if it is an EXIF user comment, which cameras and phones write too
_NAMES = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}  # of the formats, for Pillow

_QUALITY = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "method": 4}}
_MAX_XMP = 65_000  # bytes; a JPEG file has it in one segment, whose length has 16 bits
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:x2i="https://github.com/x2i/"><x2i:settings>{}</x2i:settings>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
_XMP_KEYWORD = "XML:com.adobe.xmp"  # of the packet in a PNG file
_XMP_TEXTS = {"x2i:settings": SETTINGS, "exif:UserComment": PARAMETERS, "dc:description": "description"}
# Properties are elements or attributes. A text in several languages is the first item of a list.
_XMP_PROPERTY = re.compile(
    rf"<({'|'.join(_XMP_TEXTS)})>\s*+(?:<rdf:(?:Alt|Bag|Seq)>\s*+<rdf:li[^>]*+>)?+([^<]++)"
    rf"|\b({'|'.join(_XMP_TEXTS)})=(?:\"([^\"]*+)\"|'([^']*+)')"
)
_EXIF_TEXTS = {
    ExifTags.Base.ImageDescription: "description",
    ExifTags.Base.Make: "make",
    ExifTags.Base.Model: "model",
    ExifTags.Base.UserComment: PARAMETERS,
}
# The character codes that a user comment begins with (Exif 2.32, 4.6.5).
_UNICODE, _OTHER_CODES = b"UNICODE\0", (b"ASCII\0\0\0", b"\0\0\0\0\0\0\0\0", b"JIS\0\0\0\0\0")


def save_image(image: Image.Image, file: Any, texts: Mapping[str, str] | None = None, form: str = "png") -> bool:
    """Write an image to a path or an open file, with `texts` as its only metadata.

    texts: by SETTINGS and PARAMETERS. form: one of settings.FORMATS; JPEG and WebP have a quality of 95.
    Returns False if the settings are too long for a JPEG file, which then has only PARAMETERS.
    """
    texts, name = texts or {}, _NAMES[form]
    if name == "PNG":
        chunks = PngInfo()
        for key, value in texts.items():
            chunks.add_text(key, value)
        image.save(file, format=name, pnginfo=chunks)
        return True
    options: dict[str, Any] = dict(_QUALITY[name])
    if PARAMETERS in texts:
        exif = Image.Exif()
        # The byte order that piexif writes, with which A1111 saves.
        comment = _UNICODE + texts[PARAMETERS].encode("utf-16-be")
        exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: comment}
        options["exif"] = exif
    packet = _XMP.format(escape(texts[SETTINGS])).encode() if SETTINGS in texts else b""
    fits = name != "JPEG" or len(packet) <= _MAX_XMP
    if packet and fits:
        options["xmp"] = packet
    image.convert("RGB").save(file, format=name, **options)
    return fits


@in_child
def read_texts(path: str | os.PathLike, caps: MediaCaps = CAPS) -> dict[str, str]:
    """The texts of an image file: of a PNG file by their keywords, of EXIF and XMP by the names used here.

    The keys of EXIF and XMP are description, make, model, PARAMETERS, COMMENT and SETTINGS. No pixels are decoded.
    Raises MediaError if it is no image within the limits.
    """
    texts: dict[str, str] = {}
    if sniff(path, "image", caps).name == "PNG":
        with Path(os.fsdecode(path)).open("rb") as file:
            texts = read_png_texts(file)
    with open_image(path, caps) as image:
        exif, packet = Image.Image.getexif(image), image.info.get("xmp")  # a PNG's own method decodes the pixels
        own = exif.get_ifd(ExifTags.IFD.Exif)
        for tag, name in _EXIF_TEXTS.items():
            _add(texts, name, _as_text(own.get(tag) or exif.get(tag)))
    for name, text in _xmp_texts(packet or texts.pop(_XMP_KEYWORD, "")):
        _add(texts, name, text)
    return texts


def _add(texts: dict[str, str], name: str, text: str) -> None:
    if text and name == PARAMETERS and name not in texts:
        texts[COMMENT] = text
    if text:
        texts.setdefault(name, text)


def _xmp_texts(packet: Any) -> Iterator[tuple[str, str]]:
    """Texts of an XMP packet. XML is not parsed: a packet of a stranger could be a bomb."""
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet
    for match in _XMP_PROPERTY.finditer(text if isinstance(text, str) else ""):
        element, content, attribute, *values = match.groups()
        yield _XMP_TEXTS[element or attribute], html.unescape(content or values[0] or values[1] or "").strip()


def _as_text(value: Any) -> str:
    """An EXIF value as text; empty if it is none."""
    if isinstance(value, str):
        return value.strip("\0 ")
    if not isinstance(value, bytes):
        return ""
    if value.startswith(_UNICODE):
        return _from_utf_16(value[len(_UNICODE) :])
    for code in _OTHER_CODES:
        value = value.removeprefix(code)
    return value.decode("utf-8", "replace").strip("\0 ")


def _from_utf_16(content: bytes) -> str:
    """Programs use both byte orders, mostly without a mark: in one of them, ASCII has its zeros in front."""
    if content[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return content.decode("utf-16", "replace").strip("\0 ")
    is_big = content[::2].count(0) >= content[1::2].count(0)
    return content.decode("utf-16-be" if is_big else "utf-16-le", "replace").strip("\0 ")
