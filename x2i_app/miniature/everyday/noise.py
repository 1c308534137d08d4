"""What keyboards, phones and haste do to a text without changing what it means."""

import random
import re
import unicodedata

_NEAR = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wertyuiopqsdfghjklaxcvbnmz", strict=True))
_ARTICLES = re.compile(
    r"\b(a|an|the|ein|eine|einen|einem|einer|der|die|das|den|dem|un|une|le|la|les|một)\s+", re.IGNORECASE
)
_EMOTIONS = ("🙂", "❤️", "✨", "😍", "👍", "🎨", "🙏", "😊", "💕", "😂")


def noisy(text: str, code: str, rng: random.Random) -> str:
    """The text as somebody may have typed it. code: its language."""
    if code in ("en", "de", "fr", "vi"):
        if rng.random() < 0.12:
            text = _ARTICLES.sub("", text) or text
        if rng.random() < 0.1:
            text = _typo(text, rng)
        if (rng.random() < 0.04 and code == "vi") or (rng.random() < 0.05 and code in ("de", "fr")):
            text = _plain_letters(text, code, rng)
    if rng.random() < 0.2:
        text = re.sub(r"[.,!?:;]", "", text)
    elif rng.random() < 0.25:
        text += rng.choice((".", "!", "...", "?", " !", "!!", ".", "。" if code in ("zh", "ja") else "."))
    if rng.random() < 0.03:
        text += rng.choice(("", " ")) + rng.choice(_EMOTIONS)
    if rng.random() < 0.04:
        text = rng.choice(("“{}”", '"{}"', "'{}'", "«{}»", "({})", "- {}", "「{}」", "*{}*", "> {}")).format(text)
    if rng.random() < 0.04:
        text = text.replace(" ", rng.choice(("  ", "_", "\n", " - ", "-", "\t")), rng.choice((1, 2, -1)))
    return text.strip()


def _typo(text: str, rng: random.Random) -> str:
    matches = list(re.finditer(r"[^\W\d_]{5,}", text))
    if not matches:
        return text
    match = rng.choice(matches)
    at = rng.randrange(match.start() + 1, match.end() - 1)
    letter, following = text[at], text[at + 1]
    kind = rng.choice(("swap", "drop", "double", "near"))
    changed = {
        "swap": following + letter,
        "drop": following,
        "double": letter + letter + following,
        "near": _NEAR.get(letter.lower(), letter) + following,
    }[kind]
    return text[:at] + changed + text[at + 2 :]


def _plain_letters(text: str, code: str, rng: random.Random) -> str:
    if code == "de" and rng.random() < 0.6:
        for letter, plain in zip("äöüßÄÖÜ", ("ae", "oe", "ue", "ss", "Ae", "Oe", "Ue"), strict=True):
            text = text.replace(letter, plain)
        return text
    text = text.replace("đ", "d").replace("Đ", "D").replace("œ", "oe").replace("ß", "ss")
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
