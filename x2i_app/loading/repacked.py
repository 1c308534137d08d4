"""The MLLM files of the reference's ComfyUI nodes: a whole Qwen2.5-VL as one `qwen2.5-vl-*-instruct.pt`.

https://github.com/OPPO-Mente-Lab/X2I, x2i_comfyui/model.py: a pickle of {"config", "state_dict", "processor"}, whose
first and last are objects of transformers 4.49. No object is made of them: torch's safe reader puts `_Record`s in
their places, from which the usual files of a model's folder are written, once, into the cache.
"""

import hashlib
import json
import shutil
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from huggingface_hub import constants, split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file

from x2i_app.errors import CheckpointError
from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.checkpoints import check_archive
from x2i_app.loading.files import check_file
from x2i_app.loading.hub import SPARE_BYTES, Report, show_progress, show_size

SUFFIXES = (".pt", ".pth")
_HEAD_BYTES = 2**16  # the configuration comes first
_SHARD_BYTES = 2 * 10**9  # of which safetensors holds a copy while it writes
_ALLOWED = ("transformers.", "tokenizers.", "PIL.Image.")  # modules whose classes a repacked MLLM names
_CONFIG, _PROCESSOR = "Qwen2_5_VLConfig", "Qwen2_5_VLProcessor"
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_REPETITION_PENALTY = 1.05  # of the generation_config.json of Qwen/Qwen2.5-VL-*-Instruct, which was not repacked
_FILES = {"image_processor": "preprocessor_config.json", "video_processor": "video_preprocessor_config.json"}
_TYPES = {"image_processor": "image_processor_type", "video_processor": "video_processor_type"}


def is_repacked(path: Path) -> bool:
    """Whether a file is a repacked MLLM, by its first bytes."""
    try:
        status = path.stat()
    except OSError:
        return False
    return path.suffix.lower() in SUFFIXES and _names_config(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)  # ComfyUI lists its folders each time its page is loaded
def _names_config(path: Path, size: int, changed: int) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(pickled) as file:
                return _CONFIG.encode() in file.read(_HEAD_BYTES)
    except Exception:  # noqa: BLE001 - hostile bytes make it raise anything
        return False


def one_file(path: Path) -> CheckpointError:
    """The error for a file that is no repacked MLLM."""
    return CheckpointError(
        f"{path.name} is one file, and an MLLM needs its configuration, tokenizer and vision tower too; "
        "give the folder or the hub id of the model, such as Qwen/Qwen2.5-VL-3B-Instruct."
    )


@one_at_a_time
def unpack(path: str | Path, report: Report | None = None) -> Path:
    """The folder of a repacked MLLM, which is written into the hub's cache at the first time.

    report: called while the weights are written. Raises CheckpointError for another file, and for a full disk.
    """
    path = Path(path)
    check_file(path)
    if path.suffix.lower() not in SUFFIXES:
        raise one_file(path)
    status = path.stat()
    identity = hashlib.sha256(repr((str(path.resolve()), status.st_size, status.st_mtime_ns)).encode()).hexdigest()
    folder = Path(constants.HF_HOME) / "x2i" / "mllm" / f"{path.stem}-{identity[:12]}"
    try:
        folder.parents[1].mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parents[1] / "mllm.lock"):  # another process may want the same folder
            if not folder.is_dir():
                _write(path, folder, report)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path.name} cannot be unpacked into {folder.parent} ({error}); make room, or set HF_HOME to a folder on "
            "another disk."
        ) from error
    return folder


# ----- Read ----------------------------------------------------------------------------------------------------------


class _Record:
    """Stands for an object of a pickle: its class's name and its state. Nothing of the class itself runs."""

    __slots__ = ("arguments", "state")
    name = ""

    def __new__(cls, *arguments: Any):
        record = object.__new__(cls)
        record.arguments, record.state = arguments, {}
        return record

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any):
        self.state = state


def _read(path: Path) -> dict[str, Any]:
    """The three parts, with records in place of objects. The weights stay in the file, mapped."""
    check_archive(path)
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if other := next((name for name in names if not name.startswith(_ALLOWED)), None):
            raise CheckpointError(
                f"{path.name} names {ascii(other)[1:-1][:80]}, which no MLLM needs, and was not opened; download it "
                "again from where its authors released it."
            )
        records = [(type("Record", (_Record,), {"__slots__": (), "name": name}), name) for name in names]
        with torch.serialization.safe_globals(records):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except Exception as error:  # torch.load raises anything, from EOFError to UnpicklingError
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise CheckpointError(f"{path.name} is cut or damaged ({reason}); download it again.") from error
    if not isinstance(content, dict) or not (
        _is_record(content.get("config"), _CONFIG)
        and _is_record(content.get("processor"), _PROCESSOR)
        and isinstance(weights := content.get("state_dict"), dict)
        and all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in weights.items())
    ):
        raise one_file(path)
    return content


def _is_record(value: Any, kind: str) -> bool:
    return isinstance(value, _Record) and value.name.endswith(f".{kind}") and isinstance(value.state, dict)


def _plain(value: Any) -> Any:
    """JSON of a value: a record's state without private names, an added token's text, an enum's value."""
    if isinstance(value, _Record):
        if isinstance(value.state, dict) and "content" in value.state:
            return _plain(value.state["content"])
        return _plain(value.state or next(iter(value.arguments), None))
    if isinstance(value, dict):
        kept = {str(key): _plain(each) for key, each in value.items() if not str(key).startswith("_")}
        return {key: each for key, each in kept.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return value if isinstance(value, str | int | float | bool) else None


def _settings(value: Any) -> dict[str, Any]:
    settings = _plain(value)
    return settings if isinstance(settings, dict) else {}


# ----- Write ---------------------------------------------------------------------------------------------------------


def _write(path: Path, folder: Path, report: Report | None) -> None:
    """The whole folder or nothing."""
    content = _read(path)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    try:
        unfinished.mkdir(parents=True)
        _check_space(path, unfinished)
        _write_settings(unfinished, content["config"], content["processor"])
        _write_weights(path, unfinished, content["state_dict"], report)
        unfinished.rename(folder)
    except (ValueError, TypeError, RecursionError) as error:  # settings that refer to themselves, half a character
        raise CheckpointError(f"{path.name} is cut or damaged ({str(error)[:120]}); download it again.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_space(path: Path, folder: Path) -> None:
    needed, free = path.stat().st_size, shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise CheckpointError(
            f"{path.name} is unpacked once, which needs {show_size(needed)} of disk, and the disk of the hub's cache "
            f"has {show_size(free)} free; make room, or set HF_HOME to a folder on another disk."
        )


def _write_settings(folder: Path, config: _Record, processor: _Record) -> None:
    """config.json, the tokenizer's files, the processors' and the chat template, as in a released folder."""

    def write(name: str, values: dict[str, Any]) -> None:
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    settings = {"model_type": "qwen2_5_vl"} | _settings(config)
    write("config.json", settings)
    tokens = {name: settings[name] for name in _TOKENS if name in settings}
    write("generation_config.json", tokens | {"repetition_penalty": _REPETITION_PENALTY})
    for part, name in _FILES.items():
        if isinstance(record := processor.state.get(part), _Record):
            write(name, {_TYPES[part]: record.name.rpartition(".")[2]} | _settings(record))
    tokenizer = processor.state.get("tokenizer")
    state = tokenizer.state if isinstance(tokenizer, _Record) and isinstance(tokenizer.state, dict) else {}
    library = state.get("_tokenizer")  # of the library tokenizers, whose state is the text of tokenizer.json
    if not isinstance(library, _Record) or not isinstance(library.state, bytes):
        raise CheckpointError(f"The tokenizer of {folder.stem} is missing; download the file again.")
    (folder / "tokenizer.json").write_bytes(library.state)
    # Lists and dictionaries of tokens are in tokenizer.json already.
    given = _settings(state.get("init_kwargs"))
    kept = {name: value for name, value in given.items() if not isinstance(value, dict | list)}
    write("tokenizer_config.json", kept | {"tokenizer_class": "Qwen2Tokenizer"})
    template = processor.state.get("chat_template") or state.get("chat_template")
    if isinstance(template, str):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _write_weights(path: Path, folder: Path, weights: dict[str, torch.Tensor], report: Report | None) -> None:
    """Safetensors files; of weights that are the same memory, such as a tied head, only the first."""
    own: dict[tuple[Any, ...], str] = {}
    for key, value in weights.items():
        own.setdefault((value.data_ptr(), value.shape, value.stride(), value.dtype), key)
    kept = {key: weights[key] for key in own.values()}
    claimed = sum(value.numel() * value.element_size() for value in kept.values())
    if claimed > path.stat().st_size:
        raise CheckpointError(
            f"{path.name} has {path.stat().st_size:,} bytes but its weights claim {claimed:,}; use the released file."
        )
    split = split_torch_state_dict_into_shards(kept, max_shard_size=_SHARD_BYTES)
    with show_progress(path.name, claimed, report, "Unpacking") as add:
        for name, keys in split.filename_to_tensors.items():
            shard = {key: kept[key].contiguous() for key in keys}
            save_file(shard, folder / name, metadata={"format": "pt"})
            add(sum(value.numel() * value.element_size() for value in shard.values()))
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
