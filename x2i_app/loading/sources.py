"""Which files a pipeline is made of: flag, environment, folder of models, the hub's cache, the hub. In that order."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.limits import show_value
from x2i_app.loading.download import Report
from x2i_app.loading.files import check_folder
from x2i_app.loading.flux import BASE, FluxSource, find_flux
from x2i_app.loading.hashes import check_recorded
from x2i_app.loading.hub import Found, find_directory, find_file, find_repo_file
from x2i_app.presets import get_family, get_preset
from x2i_app.settings import ASSETS, CUSTOM
from x2i_app.specs import Preset

logger = logging.getLogger(__name__)

MLLM_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class Sources:
    """The files of a pipeline, all on this machine. said: of each part, where it was found and who chose it.

    light_control: None where there is none.
    """

    preset: str
    mllm: Path
    flux: FluxSource
    alignnet: Path
    said: dict[str, str]
    light_control: Path | None


def find_sources(
    preset: str,
    mllm: str | Path | None = None,
    flux: str | Path | None = None,
    alignnet: str | Path | None = None,
    light_control: str | Path | None = None,
    *,
    models: str | Path | None = None,
    report: Report | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Sources:
    """Find every part of a pipeline and have it on this machine; nothing is loaded yet.

    The parts are as in `load_pipeline`; None, or an empty text, takes X2I_MLLM, X2I_FLUX, X2I_ALIGNNET and
    X2I_LIGHT_CONTROL, which are for the preset in X2I_PRESET if that is set, and never for a bundled one; then what the
    preset names: a LightControl only if FLUX, which it is trained for, is the preset's own. models, report: as in
    `hub.find_directory`.
    Raises X2IError's kinds: an unknown name, a part that cannot be had, or that is damaged.
    """
    given = {"mllm": mllm, "flux": flux, "alignnet": alignnet, "light_control": light_control}
    if not isinstance(preset, str):
        raise InvalidRequestError(f"preset is {show_value(preset)}; give a name.")
    for name, value in given.items():
        if not isinstance(value, str | os.PathLike | None):
            raise InvalidRequestError(f"{name} is {show_value(value)}; give a name or a path.")
    spec = None if preset.startswith(CUSTOM) else get_preset(preset)
    chosen = {name: (value, "flag") for name, value in given.items() if value}
    if not (spec and spec.directory) and environment.get("X2I_PRESET") in (None, "", preset):
        for name in given.keys() - chosen.keys():
            if value := environment.get(f"X2I_{name.upper()}"):
                chosen[name] = (value, "environment")
    if spec is None:
        _check_custom(preset, [name for name in ("mllm", "flux", "alignnet") if name not in chosen])
    parts, said = {}, {}
    finders = {"alignnet": _find_alignnet, "mllm": _find_mllm, "flux": _find_flux}
    if "light_control" in chosen or (spec and spec.light_control and "flux" not in chosen):
        finders["light_control"] = _find_light_control
    for name in sorted(finders, key=lambda name: name not in chosen):  # a mistyped path is known before any download
        value, chooser = chosen.get(name, (None, preset))
        parts[name] = finders[name](spec, value, models, report)
        found = parts[name].found if name == "flux" else parts[name]
        said[name] = f"{found.path} ({chooser}, {found.place})"
        logger.info("%s: %s", name, said[name])
    control = parts["light_control"].path if "light_control" in parts else None
    return Sources(preset, parts["mllm"].path, parts["flux"], parts["alignnet"].path, said, control)


def _find_mllm(spec: Preset | None, given, models, report) -> Found:
    if given is None and spec.directory:
        return Found(ASSETS / spec.directory / "mllm", "bundled")
    source, revision = (given, None) if given else (spec.mllm.repo_id, spec.mllm.revision)
    found = find_directory(source, revision, MLLM_FILES, models, report)
    check_folder(found.path)
    return found


def _find_alignnet(spec: Preset | None, given, models, report) -> Found:
    if given is not None:
        return find_file(given, models, report)
    released = spec.align_net
    if spec.directory:
        return Found(ASSETS / spec.directory / released.filename, "bundled")
    if released.filename is None:
        raise CheckpointError(f"No AlignNet is released for {spec.name}; train your own, and give it as `alignnet`.")
    found = find_repo_file(released.repo_id, released.filename, released.revision, models, report)
    check_recorded(found.path, f"{released.repo_id}/{released.filename}")
    return found


def _find_flux(spec: Preset | None, given, models, report) -> FluxSource:
    return find_flux(given or spec.flux, spec.flux if spec else BASE, models, report)


def _find_light_control(spec: Preset | None, given, models, report) -> Found:
    if given is not None:
        return find_file(given, models, report)
    return Found(ASSETS / spec.directory / spec.light_control, "bundled")


def _check_custom(preset: str, missing: list[str]) -> None:
    get_family(preset.removeprefix(CUSTOM))
    if missing:
        raise InvalidRequestError(
            f"{preset} came without {' and '.join(missing)}; give all of mllm, flux and alignnet."
        )
