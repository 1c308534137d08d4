r"""Weights and other signs for text encoders, as people write them for other programs, taken out of a prompt.

`(text:1.2)`, `(text)1.2`, `(text)++`, `((text))`, `{{text}}`, `[text]`, `[a:b:0.5]`, `a::2 b::1`, BREAK and AND mean
nothing to an MLLM: the text stays, the signs go. A backslash keeps a sign, `\(` or `\[`, and so do quotation marks.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_LONGEST_WORD = 100  # characters; of a longer one, only the end counts
_QUOTED = re.compile(r'"[^"\n]*"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|「[^」\n]*」')
_MASKED = re.compile("\x03(\\d+)\x03")

# As in `prompts.py`, each pattern takes a time that grows with the prompt's length and not with its square.
NUMBER = r"[-+]?(?:\d++\.?+\d*+|\.\d++)"
_DOUBLED = re.compile(r"(?<!\{)\{\{++([^{}]*+)\}\}++")
_PARTS = re.compile(rf"(?<=\w)::(?:{NUMBER})?+(?:\s++|$)")
_PARENTHESIS = re.compile(r"(?<!\\)[()]")
_WEIGHT = re.compile(rf"\s*+({NUMBER})\s*+")
_COMPEL = re.compile(r"(?:\+++|-++|\d++\.\d++)(?![\w+-])")  # behind a parenthesis
_BRACKETS = re.compile(r"(?:(?<=^)|(?<=[\s,(\[:|]))\[([^\[\]]*)\](?![\w(])")
_BREAK = re.compile(r"(?:(?<!\s)\s++)?+(?:,\s*+)?+(?<!\w)BREAK(?!\w)\s*+,?+\s*+")
_AND = re.compile(r"(?:(?<!\s)\s++)?+(?:(?<!\d):\s*+" + NUMBER + r"\s*+)?+(?<!\w)AND(?!\w)\s*+")
_WEIGHT_AT_END = re.compile(rf"(?:(?<!\s)\s++)?+(?<!\d):\s*+{NUMBER}\s*+\Z")
_ESCAPED = re.compile(r"\\([()\[\]])")
ESCAPED_BRACES = re.compile(r"\\([{}|])")


def without_weights(prompt: str, keep_backslashes: bool = False) -> tuple[str, list[str]]:
    """The prompt without such signs, and the signs with their texts, for a note.

    keep_backslashes: those before a sign that they keep.
    """
    signs: list[str] = []
    quoted: list[str] = []

    def mask(match: re.Match[str]) -> str:
        quoted.append(match[0])
        return f"\x03{len(quoted) - 1}\x03"

    def unmask(text: str) -> str:
        return _MASKED.sub(lambda match: quoted[int(match[1])], text)

    def tell(sign: str) -> None:
        signs.append(unmask(" ".join(sign.split()))[:60])

    def replaced(pattern: re.Pattern[str], text: str, change: Callable[[re.Match[str]], str]) -> str:
        def replace(match: re.Match[str]) -> str:
            new = change(match)
            if new != match[0]:
                tell(match[0])
            return new

        return pattern.sub(replace, text)

    text = masked = _QUOTED.sub(mask, prompt)
    for _ in range(20):  # from the inside out
        before = text
        text = _without_parentheses(text, tell)
        text = replaced(_BRACKETS, text, lambda match: _of_brackets(match[1]))
        text = replaced(_DOUBLED, text, lambda match: match[1])
        if text == before:
            break
    text = replaced(_PARTS, text, lambda match: ", ")
    text = replaced(_BREAK, text, lambda match: match[0] if _is_shouted(match) else ", ")
    joined = replaced(_AND, text, lambda match: match[0] if _is_shouted(match) else " and ")
    text = joined if joined == text else replaced(_WEIGHT_AT_END, joined, lambda match: "")
    if text != masked:
        text = tidy(text)
    if keep_backslashes:
        return unmask(text), signs
    return ESCAPED_BRACES.sub(r"\1", unmask(_ESCAPED.sub(r"\1", text))), signs


@dataclass
class _Parentheses:
    """A pair: places of its signs in a text.

    end: None if it is not closed. parent, child: the pair around it, and the first one inside it. last: the end of the
    last one inside it. goes: whether its signs are left out.
    """

    start: int
    parent: "_Parentheses | None"
    end: int | None = None
    child: "_Parentheses | None" = None
    last: int = -1
    goes: bool = False

    def is_doubled(self, text: str) -> bool:
        """Whether there is nothing in it but another pair, as in `((text))`."""
        child = self.child
        outside = text[self.start + 1 : child.start] + text[self.last + 1 : self.end] if child else "-"
        return not outside.strip() and child.end == self.last

    def weight_start(self, text: str) -> int | None:
        """Place of the colon of `(text:1.2)`; `(16:9)` and `(at 10:30)` have no weights."""
        begin = max(self.start, self.last) + 1
        inside, colon, number = text[begin : self.end].rpartition(":")
        if not colon or inside.endswith("\\") or not _WEIGHT.fullmatch(number):
            return None
        return None if inside[-1:].isdigit() and "." not in number else begin + len(inside)

    def weight_end(self, text: str) -> int:
        """Place behind the pair, and behind the weight of `(text)1.2` or `(text)++`; `f(x)++` has none."""
        is_call = self.start > 0 and (text[self.start - 1].isalnum() or text[self.start - 1] == "_")
        weight = None if is_call else _COMPEL.match(text, self.end + 1)
        return weight.end() if weight else self.end + 1


def _without_parentheses(text: str, tell: Callable[[str], None]) -> str:
    """The text without weights and the parentheses that stand for weights, also those inside of such ones.

    `(text)` alone stays: prompts have ordinary parentheses too. tell: called with what goes.
    """
    pairs: list[_Parentheses] = []
    opened: list[_Parentheses] = []
    for sign in _PARENTHESIS.finditer(text):
        if sign[0] == "(":
            opened.append(_Parentheses(sign.start(), opened[-1] if opened else None))
            pairs.append(opened[-1])
        elif opened:
            pair = opened.pop()
            pair.end = sign.start()
            if pair.parent:
                pair.parent.child = pair.parent.child or pair
                pair.parent.last = pair.end
    cuts: list[tuple[int, int]] = []
    for pair in pairs:
        if pair.end is None:
            continue
        colon, end, is_inside = pair.weight_start(text), pair.weight_end(text), pair.parent and pair.parent.goes
        pair.goes = bool(is_inside or colon or end > pair.end + 1 or pair.is_doubled(text))
        if pair.goes:
            cuts += [(pair.start, pair.start + 1), (colon or pair.end, end)]
            if not is_inside:
                tell(text[pair.start : end])
    parts, place = [], 0
    for start, end in sorted(cuts):
        parts.append(text[place:start])
        place = end
    return "".join([*parts, text[place:]])


def _of_brackets(inside: str) -> str:
    """What `[text]`, `[from:to:when]`, `[to:when]` or `[a|b]` shows for most steps."""
    if match := re.fullmatch(rf"([^:|]*):([^:|]*):\s*{NUMBER}\s*", inside):
        return match[2].strip() or match[1].strip()
    if match := re.fullmatch(rf"([^:|]+):\s*{NUMBER}\s*", inside):
        return match[1].strip()
    return inside.split("|")[0].strip()


def _is_shouted(match: re.Match[str]) -> bool:
    """Whether BREAK or AND is a word of a sentence in capitals, as in TAKE A BREAK."""
    start = match.start()
    before = re.findall(r"[^\W\d_]+", match.string[max(0, start - _LONGEST_WORD) : start])
    word = before[-1] if before else ""
    is_capitals = word.isupper() and word != match[0].strip(" ,\t\n")
    return is_capitals and not match[0].lstrip().startswith(",") and "\n" not in match[0]


def tidy(text: str) -> str:
    """Without the empty places that something which was taken out has left."""
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r"(?<!\s)(?:\s*+,){2,}", ",", re.sub(r"[ \t]+([,.;])", r"\1", text))
    return text.strip(" ,\t\n")
