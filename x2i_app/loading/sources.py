"""Which files a pipeline is made of: those that are named, or else those of the preset."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import constants

from x2i_app.controlnet import kind_of
from x2i_app.encoders import check_quantization
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.limits import show_value
from x2i_app.loading.checkpoints import read_alignnet_config
from x2i_app.loading.depth import find_depth_model
from x2i_app.loading.files import GGUF, SUFFIXES, check_folder
from x2i_app.loading.flux import BASE, FluxSource, find_controlnet, find_flux
from x2i_app.loading.hub import (
    Found,
    Report,
    cached_snapshot,
    commit_name,
    download_file,
    find_directory,
    find_file,
    list_files,
    models_folder,
    repository_folders,
)
from x2i_app.loading.repacked import SUFFIXES as REPACKED
from x2i_app.loading.repacked import one_file, unpack
from x2i_app.models import AlignNet
from x2i_app.presets import FAMILIES, PRESETS, get_family, get_preset, is_kontext, known_flux
from x2i_app.settings import ASSETS, CUSTOM, read_parts
from x2i_app.specs import FluxSpec, Preset

logger = logging.getLogger(__name__)

Part = Literal["mllm", "flux", "alignnet", "light_control"]  # of a preset
MLLM_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class Sources:
    """The files of a pipeline, all on this machine. light_control, controlnet: None without one.

    takes_reference, true_cfg: as in FluxSpec; None is not known. flux_spec: None if the registry lacks the FLUX model.
    controlnet_kind: of CONTROLNET_KINDS, if its name says it. depth_model: makes depth maps for the ControlNet.

    descriptions: for each part its path, who chose it ("flag", the variable or the preset) and the place it was in.
    """

    preset: str
    mllm: Path
    flux: FluxSource
    alignnet: Path
    descriptions: dict[str, str]
    light_control: Path | None
    takes_reference: bool = False
    true_cfg: bool | None = None
    flux_spec: FluxSpec | None = None
    controlnet: Path | None = None
    controlnet_kind: str | None = None
    depth_model: Path | None = None

    @property
    def commits(self) -> dict[str, str]:
        """The name and commit on the hub of each part that comes from the hub's cache."""
        paths = (("mllm", self.mllm), ("flux", self.flux.found.path), ("alignnet", self.alignnet))
        more = (("light_control", self.light_control), ("controlnet", self.controlnet))
        paths = (*paths, *((part, path) for part, path in more if path))
        return {part: name for part, path in paths if (name := commit_name(path))}


def find_sources(
    preset: str,
    mllm: str | Path | None = None,
    flux: str | Path | None = None,
    alignnet: str | Path | None = None,
    light_control: str | Path | None = None,
    controlnet: str | Path | None = None,
    *,
    kontext: bool | None = None,
    models: str | Path | None = None,
    report: Report | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Sources:
    """Find every part of a pipeline and download what is missing; no weights are loaded.

    The parts are as in `load_pipeline`; None or "" takes what the preset names. Variables were read before, with the
    settings; environment: names the one that a part came from. The preset's LightControl is used only with the preset's
    own FLUX model, which it is trained for. kontext: as in `load_pipeline`. models, report: as in `hub.find_directory`.
    Raises an X2IError: an unknown name, a part that cannot be found or downloaded, or that is damaged.
    """
    given = {"mllm": mllm, "flux": flux, "alignnet": alignnet, "light_control": light_control}
    given["controlnet"] = controlnet
    if not isinstance(preset, str):
        raise InvalidRequestError(f"preset is {show_value(preset)}; give a name.")
    for name, value in given.items():
        if not isinstance(value, str | os.PathLike | None):
            raise InvalidRequestError(f"{name} is {show_value(value)}; give a name or a path.")
    spec = None if preset.startswith(CUSTOM) else get_preset(preset)
    variables = read_parts(preset, environment)
    chosen = {
        name: (value, f"X2I_{name.upper()}" if variables.get(name) == str(value) else "flag")
        for name, value in given.items()
        if value
    }
    if spec is None:
        _check_custom(preset, [name for name in ("mllm", "flux", "alignnet") if name not in chosen])

    finders = {"alignnet": _find_alignnet, "mllm": _find_mllm, "flux": _find_flux}
    if "light_control" in chosen or (spec and spec.light_control and "flux" not in chosen):
        finders["light_control"] = _find_light_control
    if "controlnet" in chosen:
        finders["controlnet"] = _find_controlnet
    parts, descriptions = {}, {}
    for name in sorted(finders, key=lambda name: name not in chosen):  # a mistyped path fails before any download
        value, chooser = chosen.get(name, (None, preset))
        parts[name] = finders[name](spec, value, models, report)
        found = parts[name].found if name == "flux" else parts[name]
        descriptions[name] = f"{found.path} ({chooser}, {found.place})"
        logger.info("%s: %s", name, descriptions[name])
    control = parts["light_control"].path if "light_control" in parts else None
    flux_source = chosen["flux"][0] if "flux" in chosen else spec.flux
    known = known_flux(flux_source)
    return Sources(
        preset,
        parts["mllm"].path,
        parts["flux"],
        parts["alignnet"].path,
        descriptions,
        control,
        is_kontext(flux_source, kontext) or (kontext is None and is_kontext(parts["flux"].found.path)),
        known.true_cfg if known else None,
        known,
        parts["controlnet"].path if "controlnet" in parts else None,
        kind_of(str(controlnet)) if "controlnet" in parts else None,
        find_depth_model(models) if "controlnet" in parts else None,
    )


def find_part(preset: str, part: Part, models: str | Path | None = None, report: Report | None = None) -> Path:
    """One part of a preset, from this machine or downloaded; other arguments and errors as in `find_sources`."""
    spec = get_preset(preset)
    if part == "light_control" and not spec.light_control:
        having = ", ".join(name for name, other in PRESETS.items() if other.light_control)
        raise CheckpointError(f"{preset} has no LightControl; train one, or choose one of {having}.")
    finders = {"alignnet": _find_alignnet, "mllm": _find_mllm, "flux": _find_flux, "light_control": _find_light_control}
    found = finders[part](spec, None, models, report)
    return (found.found if part == "flux" else found).path


def _check_custom(preset: str, missing: list[str]) -> None:
    get_family(preset.removeprefix(CUSTOM))
    if missing:
        raise InvalidRequestError(
            f"{preset} came without {' and '.join(missing)}; give all of mllm, flux and alignnet."
        )


def _find_mllm(spec: Preset | None, given, models, report) -> Found:
    if given is None and spec.directory:
        return Found(ASSETS / spec.directory / "mllm", "bundled")
    source, revision = (given, None) if given else (spec.mllm.repo_id, spec.mllm.revision)
    if given and (file := Path(given).expanduser()).suffix.lower() in REPACKED and file.is_file():
        return Found(unpack(file, report), f"unpacked from {file}")
    if str(source).lower().endswith((GGUF, *SUFFIXES)):
        raise one_file(Path(source))
    found = find_directory(source, revision, MLLM_FILES, models, report)
    check_folder(found.path, (".",))
    check_quantization(found.path)
    return found


def _find_flux(spec: Preset | None, given, models, report) -> FluxSource:
    return find_flux(given or spec.flux, spec.flux if spec else BASE, models, report)


def _find_light_control(spec: Preset | None, given, models, report) -> Found:
    if given is not None:
        return find_file(given, models, report)
    return Found(ASSETS / spec.directory / spec.light_control, "bundled")


def _find_controlnet(spec: Preset | None, given, models, report) -> Found:
    return find_controlnet(given, models, report)


def _find_alignnet(spec: Preset | None, given, models, report) -> Found:
    if given is not None:
        return find_file(given, models, report)
    if spec.directory:
        return Found(ASSETS / spec.directory / spec.align_net.filenames[0], "bundled")
    if not spec.align_net.filenames:
        raise CheckpointError(f"No AlignNet is released for {spec.name}; train your own, and give it as `alignnet`.")
    return _find_released_alignnet(spec, models, report)


# ----- The released AlignNets ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A place that may hold an AlignNet: its files by name, with their bytes, and what returns a file's path."""

    name: str
    files: Mapping[str, int]
    fetch: Callable[[str], Path]


def _find_released_alignnet(spec: Preset, models, report) -> Found:
    """The AlignNet of a preset; in each place first by the known names, then by the shapes of other files."""
    released, misfits = spec.align_net, {}
    for place in _places(spec, models, report):
        if known := next((name for name in released.filenames if name in place.files), None):
            return _recorded(released.repo_id, known, Found(place.fetch(known), place.name))
        for name in _candidates(spec, place.files):
            path = place.fetch(name)
            misfits[name] = _misfit(spec, path)
            if not misfits[name]:
                return _recorded(released.repo_id, name, Found(path, f"{place.name}, chosen by its shapes"))
    tried = [f"{name} ({reason})" for name, reason in misfits.items()]
    others = [name for name in place.files if name not in misfits]
    raise CheckpointError(
        f"{released.repo_id} has no {' or '.join(released.filenames)}, and none of its files fits {spec.name}; it has "
        f"{_some([*tried, *others])}; give the right one as `alignnet`, e.g. {released.repo_id}/FILE."
    )


def _places(spec: Preset, models, report) -> Iterator[_Place]:
    repo_id, revision = spec.align_net.repo_id, spec.align_net.revision
    folder = models_folder(models)
    known = {name: 0 for name in spec.align_net.filenames if (folder / name).is_file()}
    for place, find in (
        *(("models folder", partial(Path, directory)) for directory in repository_folders(repo_id, models)),
        ("hub cache", partial(cached_snapshot, repo_id, revision, [])),  # not before the models folder
    ):
        directory = find()
        if directory and directory.is_dir():
            files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
            yield _Place(place, {name: path.stat().st_size for name, path in files.items()}, files.get)
        if place == "models folder" and known:
            yield _Place(place, known, lambda name: folder / name)
    files = list_files(repo_id, revision, f"{' or '.join(spec.align_net.filenames)} of {repo_id}")
    yield _Place("hub", files, lambda name: download_file(repo_id, name, revision, report))


# A weight is at least 2 bytes; a checkpoint of a training run holds up to 16 for each, with Adam's moments.
_LEAST_BYTES, _MOST_BYTES = 1.9, 16.5


def _candidates(spec: Preset, files: Mapping[str, int]) -> list[str]:
    """Weights files of the right size, the likeliest first; none that is named after another preset or MLLM family.

    The shapes alone do not tell: InternVL2.5 4B has those of Qwen2.5-VL 3B, and MiniCPM-o those of Qwen2.5-VL 7B.
    """
    family = _first_letters(spec.mllm.family)
    other_families = {_first_letters(name) for name in FAMILIES} - {family}
    taken = {name for preset in PRESETS.values() if preset.name != spec.name for name in preset.align_net.filenames}
    with torch.device("meta"):
        weights = sum(value.numel() for value in _expected_alignnet(spec).parameters())

    def is_possible(name: str) -> bool:
        lower = name.lower()
        is_weights = lower.endswith(SUFFIXES) and _LEAST_BYTES <= files[name] / weights <= _MOST_BYTES
        return is_weights and name not in taken and (family in lower or not any(f in lower for f in other_families))

    return sorted(filter(is_possible, files), key=lambda name: (family not in name.lower(), files[name], name))


def _expected_alignnet(spec: Preset) -> AlignNet:
    net, mllm = spec.align_net, spec.mllm
    sizes = {"joint_dim": net.joint_dim, "pooled_dim": net.pooled_dim, "kernel_size": net.kernel_size}
    return AlignNet(mllm.num_states, mllm.hidden_size, fusion=net.fusion, **sizes)


def _misfit(spec: Preset, path: Path) -> str:
    """Why a file is not the preset's AlignNet; empty if its shapes are right. The way it merges layers is its own."""
    expected = {
        "num_states": spec.mllm.num_states,
        "hidden_size": spec.mllm.hidden_size,
        "joint_dim": spec.align_net.joint_dim,
        "pooled_dim": spec.align_net.pooled_dim,
    }
    try:
        found = read_alignnet_config(path)
    except CheckpointError:
        return "no AlignNet"
    wrong = [f"{name} {found[name]}, not {value}" for name, value in expected.items() if found[name] != value]
    return ", ".join(wrong)


def _first_letters(name: str) -> str:
    return re.match("[a-z]+", name)[0]  # qwen2.5-vl -> qwen


def _some(names: list[str], most: int = 8) -> str:
    listed = ", ".join(names[:most]) or "no files"
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


# ----- SHA-256 of the released AlignNets -----------------------------------------------------------------------------
# Nobody publishes them. So the first file is trusted and its hash recorded; a later file must have the same hash.


def hash_record() -> Path:
    """The file of the recorded hashes, beside the hub's cache."""
    return Path(constants.HF_HOME) / "x2i" / "sha256.json"


def _recorded(repo_id: str, filename: str, found: Found) -> Found:
    """Record a file's hash, or check it if it is recorded. Raises CheckpointError if the file has changed."""
    name = f"{repo_id}/{filename}"
    with found.path.open("rb") as file:
        current = hashlib.file_digest(file, "sha256").hexdigest()
    known = _read_hashes()
    if known.get(name, current) != current:
        raise CheckpointError(
            f"{found.path.name} is not the file it was when first loaded: its SHA-256 is {current[:16]}..., and was "
            f"{known[name][:16]}...; if you trust the new one, remove its entry from {hash_record()}."
        )
    if name not in known:
        _write_hashes(known | {name: current})
    return found


def _read_hashes() -> dict[str, str]:
    file = hash_record()
    if not file.exists():
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(value, str) for value in known.values()):
            raise ValueError
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read; correct it, or remove it to start again.") from error
    return known


def _write_hashes(hashes: dict[str, str]) -> None:
    file = hash_record()
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(hashes, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(file)
    except OSError as error:  # a read-only cache is no reason to stop
        logger.info("%s cannot be written (%s); the AlignNet will not be checked next time.", file, error)
