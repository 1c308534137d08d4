"""Names of image files by a template, such as {date}-{seed}-{prompt}: allowed on every file system, and never taken."""

import re
import string
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import show_value

DEFAULT_TEMPLATE = "{date}-{seed}-{prompt}"
FIELDS = ("date", "time", "seed", "prompt", "width", "height", "steps", "preset", "number", "id")
_MOST, _LETTERS = 8, 60  # of the prompt
_LONGEST = 180  # bytes of one part of a path; file systems allow 255
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"\\|?*]')  # on Windows; elsewhere fewer
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL)


def is_device_name(part: str) -> bool:
    """Whether this part of a path is the name of a device on Windows, with any suffix, and so no file or folder."""
    return bool(_DEVICE.fullmatch(part))


def check_template(template: str) -> str:
    """The template itself. Raises InvalidRequestError if it is empty, has unknown fields, or leaves its folder."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidRequestError(
            f"output_template is {show_value(template)} ({error}); write fields as in {DEFAULT_TEMPLATE}."
        ) from None
    for _, field, form, conversion in parts:
        if field is not None and (field not in FIELDS or form or conversion):
            raise InvalidRequestError(
                f"output_template has the field {show_value('{' + field + '}')}; choose from {', '.join(FIELDS)}."
            )
    folders = template.replace("\\", "/").split("/")
    if not template.strip() or ".." in folders or "" in folders[:1] or re.match(r"[A-Za-z]:", template):
        raise InvalidRequestError(
            f"output_template is {show_value(template)}; it must be a name in the output folder, as "
            f"{DEFAULT_TEMPLATE} is."
        )
    return template


def output_name(template: str, values: Mapping[str, Any], at: datetime | None = None) -> str:
    """A name, or a path with / between folders, without a suffix.

    values: by FIELDS without date and time; a missing one is empty. at: the time; None is now.
    """
    at = at or datetime.now()
    given = {"date": f"{at:%Y-%m-%d}", "time": f"{at:%H-%M-%S}", **values, "prompt": prompt_part(values.get("prompt"))}
    fields = {name: _clean(str(given.get(name, "")).replace("/", "-")) for name in FIELDS}
    parts = [_clean_part(part.format(**fields)) for part in template.replace("\\", "/").split("/")]
    return "/".join(filter(None, parts)) or "image"


def prompt_part(prompt: str | None) -> str:
    """The first words of a prompt in any script, with - between them."""
    found = re.findall(r"[\w']+", unicodedata.normalize("NFC", prompt or ""))
    text = "-".join(found[:_MOST])
    return text if len(text) <= _LETTERS else text[:_LETTERS].rpartition("-")[0] or text[:_LETTERS]


def free_path(folder: Path, name: str, suffix: str) -> Path:
    """A path in `folder` with this name that does not exist; a number is added to a name that is taken."""
    path, number = folder / f"{name}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}{suffix}"
    return path


def _clean(text: str) -> str:
    return "".join(c for c in _FORBIDDEN.sub("", text) if unicodedata.category(c)[0] != "C")


def _clean_part(part: str) -> str:
    """One part of a path as every system accepts it; runs of separators that an empty field leaves become one."""
    part = re.sub(r"([-_ ])[-_ ]+", r"\1", _clean(part)).strip("-_. ")
    part = part.encode()[:_LONGEST].decode(errors="ignore").rstrip(". ")
    return f"_{part}" if is_device_name(part) else part
