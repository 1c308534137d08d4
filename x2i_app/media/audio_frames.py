"""Find MPEG audio, AAC and AC-3, which have no file header: two frames, each beginning where the last one ends.

Many players and recorders write zeros, a damaged frame or tags before the first whole frame, so the search starts at
every byte. Frame headers: ISO/IEC 11172-3 and 13818-3 (MPEG audio), 13818-7 (ADTS), ETSI TS 102 366 (AC-3, E-AC-3).
"""

_MPEG_1, _LAYER_1, _LAYER_3 = 3, 3, 1  # values of the header's fields
_MPEG_KBITS = {  # per layer, for MPEG-1 and for MPEG-2 and 2.5
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_AC3_RATES = (48_000, 44_100, 32_000)
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def find_audio_frames(head: bytes) -> str | None:
    """The kind of the first two audio frames that follow each other: "MP3", "AAC", "AC-3", "E-AC-3", or None.

    head: the first bytes of a file, or of what follows its tags. "MP3" includes MPEG audio of layers I and II.
    """
    for start in range(len(head) - 7):
        kind, size = _frame(head, start)
        end = start + size
        # The second byte has the version, the layer or the second half of the sync word, which do not change.
        if kind and _frame(head, end)[0] == kind and head[start + 1] == head[end + 1]:
            return kind
    return None


def _frame(head: bytes, start: int) -> tuple[str | None, int]:
    """(kind, bytes) of the frame whose header is at `start`; (None, 0) if none is."""
    header = head[start : start + 7]
    if len(header) == 7 and header[0] == 0xFF:
        return _adts_frame(header) or _mpeg_frame(header) or (None, 0)
    if len(header) == 7 and header[:2] == b"\x0b\x77":
        return _ac3_frame(header) or (None, 0)
    return None, 0


def _adts_frame(header):
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    is_frame = header[1] & 0xF6 == 0xF0 and header[2] >> 2 & 15 < 13 and size > 7
    return ("AAC", size) if is_frame else None


def _mpeg_frame(header):
    version, layer, kbits, rate = header[1] >> 3 & 3, header[1] >> 1 & 3, header[2] >> 4, header[2] >> 2 & 3
    if header[1] & 0xE0 != 0xE0 or version == 1 or layer == 0 or kbits in (0, 15) or rate == 3:
        return None
    bits = _MPEG_KBITS[version == _MPEG_1, layer][kbits - 1] * 1000
    rate, padding = _MPEG_RATES[version][rate], header[2] >> 1 & 1
    if layer == _LAYER_1:
        return "MP3", (12 * bits // rate + padding) * 4
    samples = 72 if layer == _LAYER_3 and version != _MPEG_1 else 144  # for each frame, divided by 8
    return "MP3", samples * bits // rate + padding


def _ac3_frame(header):
    if header[5] >> 3 > 10:  # the bit stream's version
        return "E-AC-3", ((header[2] & 7) << 8 | header[3]) * 2 + 2
    rate, code = header[4] >> 6, header[4] & 63
    if rate == 3 or code > 37:
        return None
    units = _AC3_KBITS[code // 2] * 96_000 // _AC3_RATES[rate]
    return "AC-3", 2 * (units + (code % 2 if rate == 1 else 0))
