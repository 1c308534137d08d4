"""Images are read as upright RGB within the limits, whatever their format."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageFile
from PIL.PngImagePlugin import PngInfo

from x2i_app.media import CAPS, is_animation, load_image, png_bands
from x2i_app.media.images import fit_size, image_size, load_mask, open_image, scaled_note

pillow_heif.register_heif_opener()  # so that Pillow can write HEIC

BOMBS = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
SUFFIXES = ("png", "jpg", "webp", "gif", "bmp", "tif", "heic", "avif")
# Pillow's names of formats; pillow-heif, which only the tests have, writes HEIC.
FORMATS = {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF"}


def make_image(size=(64, 48)):
    """Four flat quarters: red, green above; blue, white below."""
    image = Image.new("RGB", size, "red")
    width, height = size[0] // 2, size[1] // 2
    for box, color in (((width, 0), "lime"), ((0, height), "blue"), ((width, height), "white")):
        image.paste(color, (*box, box[0] + width, box[1] + height))
    return image


def corners(image):
    """The colors 4 pixels inside the corners, rounded to full or none: upper left, upper right, lower left."""
    width, height = image.size
    spots = ((4, 4), (width - 5, 4), (4, height - 5))
    return [tuple(255 * (value > 127) for value in image.getpixel(spot)) for spot in spots]


UPRIGHT = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def png(width, height, depth=8, color=2, data=b"", chunks=()):
    """A PNG with this header, further chunks (kind, body) and any data."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    make_image().save(path, FORMATS.get(suffix, suffix))
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert corners(image) == UPRIGHT
    assert corners(load_image(str(path))) == UPRIGHT


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "heic", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, suffix, orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = make_image() if orientation == 1 else make_image().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a", FORMATS.get(suffix, suffix), exif=exif)
    image = load_image(tmp_path / "a")
    assert image.size == image_size(tmp_path / "a") == (64, 48)
    assert corners(image) == UPRIGHT
    assert not image.getexif()
    if suffix != "heic":  # of which pillow-heif has removed the orientation
        with Image.open(tmp_path / "a") as opened:
            assert corners(load_image(opened)) == UPRIGHT


def test_exif_behind_the_pixels(tmp_path):
    """A PNG file may have its EXIF there; the orientation counts all the same."""
    exif = Image.Exif()
    exif[0x0112] = 3
    make_image().transpose(Image.Transpose.ROTATE_180).save(tmp_path / "a.png", exif=exif)
    whole = (tmp_path / "a.png").read_bytes()
    place = whole.index(b"eXIf") - 4
    size = 12 + int.from_bytes(whole[place : place + 4], "big")
    (tmp_path / "a.png").write_bytes(
        whole[:place] + whole[place + size : -12] + whole[place : place + size] + whole[-12:]
    )
    assert corners(load_image(tmp_path / "a.png")) == UPRIGHT


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_transparency_is_blended_with_white(tmp_path, suffix):
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    image.paste((0, 0, 0, 0), (0, 0, 4, 8))
    image.save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    clear, half = (load_image(tmp_path / f"a.{suffix}").getpixel(spot) for spot in ((1, 1), (6, 6)))
    assert clear == (255, 255, 255)
    assert half == pytest.approx((255, 127, 127), abs=1)


def test_palette_and_color_key_transparency(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "p.gif", transparency=0)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "rgb.png", transparency=(1, 2, 3))
    for name in ("p.png", "p.gif"):
        image = load_image(tmp_path / name)
        assert (image.getpixel((0, 0)), image.getpixel((1, 1))) == ((255, 255, 255), (0, 0, 255))
    assert load_image(tmp_path / "rgb.png").getpixel((0, 0)) == (255, 255, 255)


def test_other_modes():
    gray = [
        Image.new("L", (4, 4), 128),
        Image.new("LA", (4, 4), (128, 255)),
        Image.fromarray(np.full((4, 4), 128 * 257, np.uint16)),
        Image.fromarray(np.full((4, 4), 128, np.int32)),
        Image.fromarray(np.full((4, 4), 128 * 257, np.int32)),
        Image.fromarray(np.full((4, 4), 128 / 255, np.float32)),
        Image.fromarray(np.full((4, 4), 128, np.float32)),
        Image.new("RGBa", (4, 4), (128, 128, 128, 255)),
        Image.new("CMYK", (4, 4), (127, 127, 127, 0)),
    ]
    for image in gray:
        assert load_image(image).getpixel((2, 2)) == (128, 128, 128), image.mode
    assert load_image(Image.new("1", (4, 4), 1)).getpixel((0, 0)) == (255, 255, 255)


def test_16_bit_files_are_scaled(tmp_path):
    levels = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(2, 0)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        assert np.array_equal(np.asarray(load_image(tmp_path / name))[0, :, 0], np.arange(256))


def test_a_cmyk_jpeg(tmp_path):
    make_image().convert("CMYK").save(tmp_path / "a.jpg")
    assert corners(load_image(tmp_path / "a.jpg")) == UPRIGHT


def test_the_first_frame_of_an_animation(tmp_path, refused):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    for suffix in ("gif", "webp", "png", "tif"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        assert load_image(tmp_path / f"a.{suffix}").getpixel((4, 4))[0] > 250
    many = [Image.new("L", (2, 2), i % 256) for i in range(5000)]
    many[0].save(tmp_path / "many.gif", save_all=True, append_images=many[1:], duration=10)
    assert load_image(tmp_path / "many.gif").size == (2, 2)


def test_arrays():
    red = np.zeros((6, 8, 3), np.uint8)
    red[..., 0] = 255
    assert load_image(red).size == (8, 6)
    assert np.array_equal(np.asarray(load_image(red)), red)
    assert np.array_equal(np.asarray(load_image(red / 255)), red)
    assert np.array_equal(np.asarray(load_image((red / 255).astype(np.float16))), red)
    assert np.array_equal(np.asarray(load_image(red[::-1, ::-1])), red)
    assert load_image(red[..., 0]).getpixel((0, 0)) == (255, 255, 255)
    half = np.dstack([red, np.full((6, 8), 128, np.uint8)])
    assert load_image(half).getpixel((0, 0)) == pytest.approx((255, 127, 127), abs=1)


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (np.zeros(5, np.uint8), "(5,)"),
        (np.zeros((4, 4, 2), np.uint8), "(4, 4, 2)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "(1, 4, 4, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "4 x 0"),
        (np.zeros((1, 66_000), np.uint8), "66,000"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4), bool), "bool"),
        (np.full((4, 4), np.nan), "0 to 1"),
        (np.full((4, 4), 255.0), "0 to 1"),
        (np.full((4, 4), -0.1), "0 to 1"),
        (np.array([["a", "b"]]), "uint8"),
    ],
)
def test_invalid_arrays_are_refused(refused, array, part):
    refused(load_image, array, contains=part)


def test_metadata_are_removed(tmp_path):
    text = PngInfo()
    text.add_text("parameters", "a secret")
    make_image().save(tmp_path / "a.png", pnginfo=text, dpi=(72, 72), icc_profile=b"x")
    assert load_image(tmp_path / "a.png").info == {}


def test_the_source_is_not_changed(tmp_path):
    source = make_image().convert("P")
    before = source.tobytes()
    load_image(source).paste("black", (0, 0, 64, 48))
    assert (source.mode, source.tobytes()) == ("P", before)
    image = make_image()
    load_image(image).paste("black", (0, 0, 64, 48))
    assert corners(image) == UPRIGHT


@BOMBS
@pytest.mark.parametrize(
    ("header", "part"),
    [
        ((65_000, 65_000), "150,000,000"),
        ((60_000_000, 1), "65,500"),
        ((13_300, 13_300, 1, 0), "13,300"),
        ((65_501, 1), "65,501 x 1"),
        ((12_501, 12_000), "12,501 x 12,000"),
        ((0, 5), ""),
        ((5, 0), ""),
    ],
)
def test_bombs_are_refused_by_their_header(tmp_path, refused, header, part):
    """What cannot be scaled down while it is decoded; also where Pillow's own limit is an error."""
    # Without any pixels: an attempt to decode them would be refused as damaged.
    (tmp_path / "bomb.png").write_bytes(png(*header))
    message = refused(load_image, tmp_path / "bomb.png", contains=["'bomb.png'", part])
    assert not part or "damaged" not in message


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_bombs_with_warnings_as_errors(tmp_path, refused):
    (tmp_path / "bomb.png").write_bytes(png(13_300, 13_300, 1, 0))
    refused(load_image, tmp_path / "bomb.png", contains="150,000,000")


def test_caps_apply_to_pil_images_and_arrays(refused):
    """They are scaled down; what is far too large for that is refused."""
    small = replace(CAPS, image_side=10, image_pixels=50, source_side=100, streamed_pixels=2000)
    for make in (lambda width, height: Image.new("L", (width, height)), lambda w, h: np.zeros((h, w), np.uint8)):
        assert load_image(make(20, 1), caps=small).size == (10, 1)
        assert load_image(make(20, 10), caps=small).size == (10, 5)
        assert load_image(make(10, 5), caps=small).size == (10, 5)
        refused(load_image, make(101, 1), caps=small, contains="101 x 1")
        refused(load_image, make(50, 41), caps=small, contains="50 x 41")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_cut_files_are_refused(tmp_path, refused, suffix, part):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, FORMATS.get(suffix, suffix))
    (tmp_path / f"a.{suffix}").write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * part)])
    refused(load_image, tmp_path / f"a.{suffix}", contains=["damaged", f"'a.{suffix}'"])


@pytest.mark.parametrize("kind", ["zTXt", "iTXt"])
@pytest.mark.parametrize("place", [33, -12], ids=["before the pixels", "after them"])
def test_long_texts_are_left_out(tmp_path, kind, place):
    """Pillow itself refuses a PNG file with a text that decompresses to more than 1 MB."""
    header = b"k\0\0" if kind == "zTXt" else b"k\0\1\0en\0k\0"
    body = header + zlib.compress(bytes(20_000_000))
    chunk = struct.pack(">I", len(body)) + kind.encode() + body + struct.pack(">I", zlib.crc32(kind.encode() + body))
    make_image().save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    content = whole[:place] + chunk + whole[place:]
    (tmp_path / "a.png").write_bytes(content)
    for source in (tmp_path / "a.png", content):
        assert corners(load_image(source)) == UPRIGHT
    with open_image(tmp_path / "a.png") as image:
        image.load()
        assert "k" not in image.info


def icc_profile(space, **tags):
    """An ICC profile (version 2) of a display: `space` is RGB or GRAY, tags are names and their content."""
    data, table, offset = b"", struct.pack(">I", len(tags)), 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name.encode() + struct.pack(">II", offset + len(data), len(content))
        data += content
    head = struct.pack(
        ">I4sI4s4s4s12s4s", offset + len(data), b"", 0x02100000, b"mntr", space.ljust(4).encode(), b"XYZ ", b"", b"acsp"
    )
    return head.ljust(68, b"\0") + xyz(0.9642, 1.0, 0.8249)[8:] + bytes(48) + table + data


def xyz(*values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * value))


def description(text):
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text.encode() + bytes(79)


# Colorants relative to D50, of the published color spaces.
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491))


SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def rgb_profile(colorants, exponent=2.2):
    named = zip(("rXYZ", "gXYZ", "bXYZ"), colorants, strict=True)
    curves = {f"{channel}TRC": gamma(exponent) for channel in "rgb"}
    tags = {"desc": description("test"), "wtpt": xyz(0.9642, 1.0, 0.8249)}
    return icc_profile("RGB", **tags, **{name: xyz(*value) for name, value in named}, **curves)


@pytest.mark.parametrize(("colorants", "exponent"), [(ADOBE, 2.2), (P3, 2.2), (PROPHOTO, 1.8)])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_color_profiles_become_srgb(tmp_path, colorants, exponent, suffix):
    """Expected levels come from the colorants by hand: linear light, XYZ, sRGB's own matrix and curve."""
    encoded = np.array([200, 40, 40]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    srgb = np.array([[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]])
    stored = (linear @ srgb @ np.linalg.inv(np.array(colorants))).clip(0, 1) ** (1 / exponent)
    image = Image.new("RGB", (32, 32), tuple(np.round(255 * stored).astype(int).tolist()))
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    image.save(tmp_path / f"a.{suffix}", icc_profile=rgb_profile(colorants, exponent), **options)
    assert load_image(tmp_path / f"a.{suffix}").getpixel((9, 9)) == pytest.approx((200, 40, 40), abs=3)


def test_profiles_with_transparency_palette_and_gray(tmp_path):
    adobe = rgb_profile(ADOBE)
    clear = Image.new("RGBA", (4, 4), (172, 44, 43, 0))
    clear.paste((172, 44, 43, 255), (0, 0, 2, 4))
    clear.save(tmp_path / "rgba.png", icc_profile=adobe)
    Image.new("RGB", (4, 4), (172, 44, 43)).quantize(2).save(tmp_path / "p.png", icc_profile=adobe)
    for name in ("rgba.png", "p.png"):
        assert load_image(tmp_path / name).getpixel((0, 0)) == pytest.approx((200, 40, 40), abs=3)
    assert load_image(tmp_path / "rgba.png").getpixel((3, 0)) == (255, 255, 255)
    tags = {"desc": description("gray"), "wtpt": xyz(0.9642, 1.0, 0.8249), "kTRC": gamma(1.0)}
    gray = icc_profile("GRAY", **tags)
    Image.new("L", (4, 4), 55).save(tmp_path / "l.png", icc_profile=gray)
    Image.fromarray(np.full((4, 4), 55 * 257, np.uint16)).save(tmp_path / "l16.png", icc_profile=gray)
    for name in ("l.png", "l16.png"):  # linear 55 / 255 is 128 in sRGB
        assert load_image(tmp_path / name).getpixel((0, 0)) == pytest.approx((128, 128, 128), abs=2)


def lut_profile():
    """An ICC profile of printing colors: a table of two levels for each ink. Full cyan is L 50, a -50, b 0; the other
    inks change nothing but black, which makes everything black.
    """
    table = b""
    for node in range(16):  # the last ink changes fastest
        cyan, black = node >> 3 & 1, node & 1
        lightness, a = (0, 128) if black else (128, 78) if cyan else (255, 128)
        table += bytes((lightness, a, 128))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    inputs, outputs = bytes(range(256)) * 4, bytes(range(256)) * 3
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + inputs + table + outputs
    tags = {"desc": description("inks"), "wtpt": xyz(0.9642, 1.0, 0.8249), "A2B0": lut, "A2B1": lut}
    profile = bytearray(icc_profile("CMYK", **tags))
    profile[12:16], profile[20:24] = b"prtr", b"Lab "
    return bytes(profile)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_profiles(tmp_path, suffix):
    """The inks are mixed as the profile says, and not as Pillow's formula does; JPEG stores them inverted."""
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (8, 0, 16, 16))
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    image.save(tmp_path / f"a.{suffix}", icc_profile=lut_profile(), **options)
    image.save(tmp_path / f"b.{suffix}", **options)
    with_profile, without = load_image(tmp_path / f"a.{suffix}"), load_image(tmp_path / f"b.{suffix}")
    # L 50, a -50, b 0 (D50) is 0, 140, 119 in sRGB: red is out of its range.
    assert with_profile.getpixel((2, 8)) == pytest.approx((0, 140, 119), abs=6)
    assert without.getpixel((2, 8)) == pytest.approx((0, 255, 255), abs=3)
    for each in (with_profile, without):
        assert each.getpixel((12, 8)) == pytest.approx((0, 0, 0), abs=3)


def test_lab_images(tmp_path):
    """TIFF files may be in Lab, without a profile."""
    Image.new("LAB", (4, 4), (128, 206, 128)).save(tmp_path / "a.tif")  # Pillow keeps a and b as signed bytes
    red, green, blue = load_image(tmp_path / "a.tif").getpixel((1, 1))
    assert abs(red - green) > 40 or abs(green - blue) > 40


def test_a_profile_is_not_taken_by_its_name(tmp_path):
    """There are linear profiles called sRGB, and sRGB profiles of any name; the second changes no pixel."""
    linear = rgb_profile(SRGB, 1.0).replace(b"test", b"sRGB")
    Image.new("RGB", (4, 4), (55, 55, 55)).save(tmp_path / "a.png", icc_profile=linear)
    assert load_image(tmp_path / "a.png").getpixel((1, 1)) == pytest.approx((128, 128, 128), abs=2)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    real = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(tmp_path / "b.png", icc_profile=real)
    assert np.array_equal(np.asarray(load_image(tmp_path / "b.png")), pixels)


def test_a_large_profile(tmp_path):
    """Pillow refuses a PNG file whose profile has more than 1 MB, as printing profiles have; here it is used."""
    large = rgb_profile(ADOBE) + np.random.default_rng(0).bytes(1_500_000)
    large = struct.pack(">I", len(large)) + large[4:]
    Image.new("RGB", (4, 4), (172, 44, 43)).save(tmp_path / "a.png", icc_profile=large)
    assert load_image(tmp_path / "a.png").getpixel((1, 1)) == pytest.approx((200, 40, 40), abs=3)
    Image.new("RGB", (64, 48), (172, 44, 43)).save(tmp_path / "b.png", icc_profile=rgb_profile(ADOBE))
    small = replace(CAPS, image_pixels=600, whole_pixels=768)
    assert load_image(tmp_path / "b.png", small).getpixel((1, 1)) == pytest.approx((200, 40, 40), abs=3)


def with_chunk(path, kind, body):
    """Add a chunk behind a PNG file's header."""
    whole = path.read_bytes()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(whole[:33] + chunk + whole[33:])


@pytest.mark.parametrize(
    ("chunks", "stored", "shown"),
    [
        ({b"gAMA": struct.pack(">I", 100_000)}, (55, 55, 55), (128, 128, 128)),  # linear
        ({b"gAMA": struct.pack(">I", 45_455)}, (55, 60, 70), (55, 60, 70)),  # as good as sRGB
        ({b"gAMA": struct.pack(">I", 100_000), b"sRGB": b"\0"}, (55, 55, 55), (55, 55, 55)),
        ({b"cICP": bytes((12, 13, 0, 1))}, (183, 59, 52), (200, 40, 40)),  # Display P3
        ({b"cICP": bytes((1, 13, 0, 1))}, (9, 99, 199), (9, 99, 199)),
        ({b"cICP": bytes((9, 16, 0, 1))}, (148, 148, 148), (246, 246, 246)),  # PQ: 203 cd/m2 is white
        ({b"cICP": bytes((9, 18, 0, 1))}, (191, 191, 191), (246, 246, 246)),  # HLG: 75 % is white
        ({b"cICP": bytes((77, 88, 0, 1))}, (9, 99, 199), (9, 99, 199)),
    ],
)
def test_colors_that_a_png_names(tmp_path, chunks, stored, shown):
    Image.new("RGB", (4, 4), stored).save(tmp_path / "a.png")
    for kind, body in chunks.items():
        with_chunk(tmp_path / "a.png", kind, body)
    assert load_image(tmp_path / "a.png").getpixel((1, 1)) == pytest.approx(shown, abs=4)


def test_16_bit_gray_with_a_transparent_level(tmp_path):
    Image.fromarray(np.array([[1000, 30_000]], np.uint16)).save(tmp_path / "a.png")
    with_chunk(tmp_path / "a.png", b"tRNS", struct.pack(">H", 1000))
    image = load_image(tmp_path / "a.png")
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (117, 117, 117)]


# Large images


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGBA", {}),
        ("LA", {}),
        ("L", {}),
        ("1", {}),
        ("P", {}),
        ("P", {"bits": 2}),
        ("P", {"transparency": 3}),
        ("I;16", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value), ""),
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_png_is_decoded_in_bands(monkeypatch, mode, options, orientation):
    """The same pixels as from the whole image, scaled down; with profile, transparency, palette and orientation."""
    monkeypatch.setattr(png_bands, "_BAND", 700)  # bytes: a few rows
    grid = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(np.kron(grid, np.ones((8, 8, 1), np.uint8)))
    if mode == "P":
        image = image.quantize(4 if "bits" in options else 16)
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.kron(grid[..., 0], np.ones((8, 8), np.uint8))))
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    profile = None if mode in ("L", "LA", "1", "I;16") else rgb_profile(ADOBE)
    image.save(content, "PNG", exif=exif, icc_profile=profile, **options)
    small = replace(CAPS, image_pixels=600, whole_pixels=768)
    expected = np.asarray(load_image(content.getvalue()).reduce(2).resize((28, 21) if orientation == 1 else (21, 28)))
    got = np.asarray(load_image(content.getvalue(), small).resize(expected.shape[1::-1]))
    assert np.abs(got.astype(int) - expected).max() <= 40
    assert np.abs(got.astype(int) - expected).mean() < 3


def test_colors_that_a_large_png_names(tmp_path):
    Image.new("RGB", (64, 48), (183, 59, 52)).save(tmp_path / "a.png")
    with_chunk(tmp_path / "a.png", b"cICP", bytes((12, 13, 0, 1)))  # Display P3
    image = load_image(tmp_path / "a.png", replace(CAPS, image_pixels=600, whole_pixels=768))
    assert image.getpixel((9, 9)) == pytest.approx((200, 40, 40), abs=4)


def test_a_cut_large_png(refused):
    noise, content = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), io.BytesIO()
    Image.fromarray(noise).save(content, "PNG")
    small = replace(CAPS, image_pixels=600, whole_pixels=768)
    refused(load_image, content.getvalue()[:5000], caps=small, contains="damaged")


@pytest.mark.parametrize(
    ("suffix", "options", "is_read"),
    [("jpg", {}, True), ("jpg", {"progressive": True}, False), ("webp", {}, False), ("png", {}, True)],
)
def test_large_images_of_each_format(tmp_path, refused, suffix, options, is_read):
    """JPEG and PNG are decoded in parts; what must be decoded as a whole has a lower limit."""
    path, small = tmp_path / f"a.{suffix}", replace(CAPS, image_pixels=600, whole_pixels=1000)
    make_image().save(path, **options)
    if is_read:
        image = load_image(path, small)
        assert image.size == fit_size(64, 48, 600) == (28, 21)
        assert corners(image.resize((64, 48))) == UPRIGHT
    else:
        refused(load_image, path, caps=small, contains=["'a.", "64 x 48", "1,000 pixels are allowed"])


@pytest.mark.parametrize(("size", "used"), [((6000, 4500), (5773, 4330)), ((1080, 14_000), (632, 8192))])
def test_photos_and_long_screenshots(tmp_path, size, used):
    """A photo of 27 MP, and a screenshot of a whole page, as phones take them: scaled down, and a note says so."""
    Image.new("RGB", size, "red").save(tmp_path / "a.jpg", quality=20)
    image = load_image(tmp_path / "a.jpg")
    assert (image.size, image.getpixel((9, 9))) == (used, pytest.approx((254, 0, 0), abs=2))
    assert image_size(tmp_path / "a.jpg") == used
    note = f"An image of {size[0]:,} x {size[1]:,} pixels was scaled down to {used[0]:,} x {used[1]:,}."
    assert scaled_note(tmp_path / "a.jpg") == note
    assert scaled_note(image) is None


@pytest.mark.parametrize("profile", [b"x", rgb_profile(ADOBE)[:200], icc_profile("GRAY"), bytes(5 * 2**20)])
def test_unusable_profiles_are_ignored(tmp_path, profile):
    Image.new("RGB", (4, 4), (172, 44, 43)).save(tmp_path / "a.tif", icc_profile=profile)
    assert load_image(tmp_path / "a.tif").getpixel((0, 0)) == (172, 44, 43)


def test_pillows_settings_are_not_changed(tmp_path):
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    make_image().save(tmp_path / "a.png")
    load_image(tmp_path / "a.png")
    current = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert current == before


def test_a_closed_image_is_refused(tmp_path, refused):
    make_image().save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.close()
    refused(load_image, image, contains="The image")


@pytest.mark.parametrize("size", [(1920, 1080), (3, 5000), (5000, 3), (1, 1), (4096, 1), (7, 7)])
@pytest.mark.parametrize("pixels", [1, 100, 128 * 128, 10**9])
def test_fit_size(size, pixels):
    width, height = fit_size(*size, pixels)
    assert 1 <= width <= size[0]
    assert 1 <= height <= size[1]
    assert width * height <= pixels
    if size[0] * size[1] <= pixels:
        assert (width, height) == size
    elif min(width, height) > 10:
        assert width / height == pytest.approx(size[0] / size[1], rel=0.05)


def test_mask_threshold():
    levels = np.array([[0, 127, 128, 255]], np.uint8)
    assert np.asarray(load_mask(levels)).tolist() == [[0, 0, 255, 255]]


def test_bytes_are_read_like_files(tmp_path, refused):
    make_image().save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(np.asarray(load_image(content)), np.asarray(load_image(tmp_path / "a.png")))
    refused(load_image, content, replace(CAPS, source_side=63), contains="The image is 64 x 48")
    refused(load_image, content[:60], contains="damaged")
    refused(load_image, b"", contains="empty")
    refused(load_image, b"%PDF-1.7", contains="The file is a PDF document")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_size(tmp_path, orientation):
    """It is the size after rotation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    make_image().save(tmp_path / "a.jpg", exif=exif)
    assert image_size(tmp_path / "a.jpg") == load_image(tmp_path / "a.jpg").size


def test_is_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for suffix in ("gif", "webp"):
        frames[0].save(tmp_path / f"still.{suffix}")
        frames[0].save(tmp_path / f"animation.{suffix}", save_all=True, append_images=frames[1:])
        assert not is_animation(tmp_path / f"still.{suffix}")
        assert is_animation(tmp_path / f"animation.{suffix}")
    frames[0].save(tmp_path / "image.png")
    assert not is_animation(tmp_path / "image.png")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_note_says_the_size_that_decoding_gives(tmp_path, image, suffix):
    """A file that is scaled down while it is decoded: here by 4, as libjpeg cannot do 3."""
    path, small = tmp_path / f"a.{suffix}", replace(CAPS, image_pixels=600, whole_pixels=768)
    image.save(path)
    width, height = load_image(path, small).size
    assert (width, height) == (23, 15)
    assert str(scaled_note(path, small)) == f"An image of 90 x 60 pixels was scaled down to {width} x {height}."


def tiff(mark, pixels, bits, *, white_is_zero=False, sample_format=1):
    """A gray TIFF file; mark: II* is the usual form with little end first, II+ is BigTIFF."""
    entries = [(256, 4, pixels.shape[1]), (257, 4, pixels.shape[0]), (258, 3, bits), (259, 3, 1)]
    entries += [(262, 3, 0 if white_is_zero else 1), (273, 4, 8), (277, 3, 1), (278, 4, pixels.shape[0])]
    entries += [(279, 4, pixels.nbytes), (339, 3, sample_format)]
    is_big = mark == b"II+\0"
    head, count, row, rest = (16, "<Q", "<HHQQ", 8) if is_big else (8, "<H", "<HHII", 4)
    entries = [(tag, kind, head if tag == 273 else value) for tag, kind, value in entries]
    table = struct.pack(count, len(entries)) + b"".join(struct.pack(row, t, k, 1, value) for t, k, value in entries)
    start = head + pixels.nbytes
    begin = mark + (struct.pack("<HHQ", 8, 0, start) if is_big else struct.pack("<I", start))
    return begin + pixels.tobytes() + table + bytes(rest)


@pytest.mark.parametrize(
    ("mark", "level", "kind", "options", "shown"),
    [
        (b"II+\0", 100, np.uint8, {}, 100),
        (b"II*\0", 100 * 257, np.uint16, {}, 100),
        (b"II*\0", 100 * 257, np.uint16, {"white_is_zero": True}, 155),
        (b"II*\0", 100, np.uint8, {"white_is_zero": True}, 155),
        (b"II*\0", 100 * 16843009, np.uint32, {}, 100),
        (b"II*\0", 200 * 16843009, np.uint32, {}, 200),
    ],
)
def test_tiff_files_of_scanners(mark, level, kind, options, shown):
    """BigTIFF, 32 bits, and levels that begin at white."""
    pixels = np.full((6, 8), level, kind)
    image = load_image(tiff(mark, pixels, pixels.itemsize * 8, **options))
    assert image.getpixel((3, 3)) == (shown, shown, shown)


def test_forms_of_pixels_that_cannot_be_read(refused):
    """The file is not damaged: another copy would not help. Half precision, and an unknown compression of BMP."""
    half = tiff(b"II*\0", np.full((6, 8), 0.5, np.float16), 16, sample_format=3)
    bitmap = bytearray(bmp_of(8))
    bitmap[30] = 13  # the compression
    for content in (half, bytes(bitmap)):
        refused(load_image, content, contains="The image stores its pixels in a form that cannot be read")


def bmp_of(side):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("whole_pixels", [10**6, 100])
def test_a_transparent_level_of_few_bits(monkeypatch, depth, whole_pixels):
    """Half of the pixels have the level that tRNS names."""
    most = 2**depth - 1
    level = max(1, most - 1)
    row = b"\0" + bytes([int(f"{level:0{depth}b}" * (8 // depth), 2)]) * (2 * depth) + bytes(2 * depth)
    content = png(32, 16, depth=depth, color=0, data=row * 16, chunks=[(b"tRNS", struct.pack(">H", level))])
    image = load_image(content, replace(CAPS, whole_pixels=whole_pixels))
    assert image.getpixel((2, 2)) == (255, 255, 255)
    assert image.getpixel((image.width - 2, 2)) == (0, 0, 0)
