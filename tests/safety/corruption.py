"""Bytes that were bent: what a bad disk, a cut download or a patient stranger makes of a good file."""

import random

_LIMITS = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00")


def mutate(whole: bytes, chance: random.Random) -> bytes:
    """One to eight changes, mostly near the start, where headers are: flips, extremes, cuts, doublings."""
    data = bytearray(whole)
    for _ in range(chance.randint(1, 8)):
        reach = min(len(data), 200) if chance.random() < 0.6 else len(data)
        at = chance.randrange(max(1, reach))
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                data[at : at + 4] = chance.choice(_LIMITS)
            case 2 if chance.random() < 0.2:
                del data[max(at, 16) :]
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 64)]
            case _:
                del data[at : at + chance.randint(1, 16)]
    return bytes(data)
