"""The turns of a conversation as JSON: the endpoint's parameter `history`.

It is a list, oldest turn first, each with `prompt`, `images`, `videos`, `audios` (uploaded files), `answer`, and
`result`, the generated image. The page keeps it, and the server keeps nothing.
"""

from collections.abc import Sequence
from typing import Any

from x2i_app.errors import InvalidRequestError
from x2i_app.request import GenerationResult, Turn, as_turn, show_value

KINDS = ("images", "videos", "audios")

Turns = Sequence[tuple[Turn, str | None]]  # each with the path of its result


def read_json(history: Any) -> list[tuple[Turn, str | None]]:
    """The turns of a conversation, each with the path of its result. Raises InvalidRequestError."""
    if history is None:
        return []
    if not isinstance(history, list):
        raise InvalidRequestError(f"history is {show_value(history)}; it must be a list of turns.")
    return [_read_turn(turn) for turn in history]


def _read_turn(value: Any) -> tuple[Turn, str | None]:
    if not isinstance(value, dict):
        return as_turn(value), None
    fields = dict(value)
    former = fields.pop("picture", None)  # the name of `result` in earlier versions
    result = fields.pop("result", None) or former
    for kind in KINDS:
        if isinstance(fields.get(kind), list):
            fields[kind] = [_path(file) for file in fields[kind]]
    return as_turn(fields), result and _path(result)


def _path(file: Any) -> str:
    # RequestGuard has checked that the file of such an object was uploaded here; a plain string may name any file.
    if isinstance(file, dict) and isinstance(file.get("path"), str):
        return file["path"]
    raise InvalidRequestError(
        f"history contains the file {show_value(file)}; upload it, and send the path that the upload returned."
    )


def as_json(turns: Turns) -> list[dict[str, Any]]:
    """The JSON that `read_json` reads."""
    return [
        {"prompt": turn.prompt, "answer": turn.answer, "result": result and as_file(result)}
        | {kind: [as_file(path) for path in getattr(turn, kind) if isinstance(path, str)] for kind in KINDS}
        for turn, result in turns
    ]


def as_file(path: str) -> dict[str, Any]:
    """A file of this app, as JSON."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def extend(turns: Turns, result: GenerationResult, path: str | None) -> list[tuple[Turn, str | None]]:
    """The conversation that ends with a result. `turns` may know the results of the earlier turns."""
    request = result.request
    earlier = list(turns) if len(turns) == len(request.history) else [(turn, None) for turn in request.history]
    own = request.turn
    return [*earlier, (Turn(own.prompt, own.images, own.videos, own.audios, result.answer or ""), path)]
