"""Corrupts bytes at random, as a bad disk, a cut download or an attacker does."""

import random

_EXTREMES = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00")


def corrupt(content: bytes, rng: random.Random) -> bytes:
    """A copy with one to eight changes, mostly near the start, where headers are.

    A change sets a byte, sets four bytes to an extreme number, cuts the rest, or doubles or deletes a few bytes.
    """
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        reach = min(len(data), 200) if rng.random() < 0.6 else len(data)
        at = rng.randrange(max(1, reach))
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                data[at : at + 4] = rng.choice(_EXTREMES)
            case 2 if rng.random() < 0.2:
                del data[max(at, 16) :]
            case 3:
                data[at:at] = data[at : at + rng.randint(1, 64)]
            case _:
                del data[at : at + rng.randint(1, 16)]
    return bytes(data)
