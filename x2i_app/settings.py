"""Settings of the app and of its commands: each is a flag, and an X2I_* variable for where flags cannot be given.

`--preset qwen2.5-vl-3b` and X2I_PRESET=qwen2.5-vl-3b mean the same; the flag wins. A flag --preset for another preset
than that of X2I_PRESET also leaves out the variables of its parts, see `read_parts`. Gradio's own GRADIO_* variables,
which a Hugging Face Space sets, also say where the page listens. `x2i_app.options` reads all of them.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import ClassVar, Literal

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import Range, clean_numbers, show_value
from x2i_app.output_names import check_template
from x2i_app.presets import MEMORY_PROFILES, get_family, get_preset

# The bundled miniature and the examples: inside the package where a wheel put them, in a checkout beside it.
_PACKAGE = Path(__file__).resolve().parent
ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"
FORMATS = ("png", "jpg", "webp")  # of image files, by their suffixes
PROFILES = ("auto", *MEMORY_PROFILES)
CUSTOM = "custom:"
PARTS = ("flux", "mllm", "alignnet", "light_control", "controlnet")  # of a pipeline, each a file, a folder or a hub id
_PASSWORD_LETTERS = 8
_KEY_LETTERS = 16  # it is sent with each request, so it must be too long to be guessed
_NUMBERS = {
    "port": Range(0, 65_535),
    "queue_size": Range(1, 10_000),
    "linger": Range(0, 86_400),
    "job_seconds": Range(0, 86_400),
    "keep_hours": Range(0, 8_760),
}
_JOB_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What decides how much memory a model needs. Each option below is also a variable: X2I_PRESET for --preset."""

    VARIABLES: ClassVar[str] = "X2I_"

    preset: str = "x2i-tiny"
    """which X2I model to load: x2i-tiny, another preset, or custom:FAMILY for your own files"""
    flux: str | None = None
    """FLUX.1 model: a name of the registry, a folder, a hub id, or a .safetensors or .gguf file"""
    mllm: str | None = None
    """MLLM: a folder, a hub id or a repacked .pt file instead of the preset's"""
    light_control: str | None = None
    """LightControl: a file or a folder instead of the preset's"""
    controlnet: str | None = None
    """ControlNet for the FLUX model: a folder or a hub id"""
    kontext: bool | None = None
    """whether the FLUX model is a FLUX.1 Kontext, which keeps to a reference image; none: its name says so"""
    profile: Literal[PROFILES] = "auto"
    """how to use memory"""

    def unfit_variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Of the parts whose variables are not for this preset: the sentence that says so."""
        fit = read_parts(self.preset, environment)
        meant = environment.get("X2I_PRESET")
        why = f"X2I_PRESET says that it is for {meant}" if meant else "set X2I_PRESET to the preset that it is for"
        return {part: f"X2I_{part.upper()} is not used with {self.preset}; {why}." for part in PARTS if part not in fit}

    def __post_init__(self):
        """Raises InvalidRequestError for a value that is not allowed."""
        if self.preset.startswith(CUSTOM):
            get_family(self.preset.removeprefix(CUSTOM))
        else:
            get_preset(self.preset)
        _check_choice("profile", self.profile, PROFILES)


@dataclass(frozen=True, kw_only=True)
class ModelSettings(PlanSettings):
    """What model to use, and how. Each option below is also a variable: X2I_PRESET for --preset."""

    alignnet: str | None = None
    """AlignNet: a file or a folder instead of the preset's"""
    models: str = "models"
    """folder with models by NAME or OWNER/NAME; it is searched before the hub is asked"""
    whisper: str = "base"
    """Whisper model for MLLMs that cannot read audio: a size, or a .pt file"""
    device: str | None = None
    """torch device, e.g. cuda, cuda:1, mps or cpu"""
    keep_quantized: bool = True
    """keep a large model's 4-bit weights on disk beside the hub's cache, for a faster next start"""
    compile: bool = False
    """compile FLUX by torch.compile, on a card: a slower first image of each size, and faster ones after it"""


@dataclass(frozen=True, kw_only=True)
class FileSettings(ModelSettings):
    """What model to use, and how to save. Each option below is also a variable: X2I_PRESET for --preset."""

    metadata: bool = True
    """save prompt and settings in each image file"""
    image_format: Literal[FORMATS] = "png"
    """file format of images; the page and the API can choose another"""
    wildcards: str = "wildcards"
    """folder with lists for __name__ in prompts: name.txt, one entry in each row"""
    output_template: str | None = None
    """names of image files, e.g. {date}-{seed}-{prompt}; also time, width, height, steps, preset, number, id"""

    def __post_init__(self):
        super().__post_init__()
        _check_choice("image_format", self.image_format, FORMATS)
        if self.output_template is not None:
            check_template(self.output_template)


@dataclass(frozen=True, kw_only=True)
class Settings(FileSettings):
    """Settings of the app. Each option below is also a variable: X2I_QUEUE_SIZE for --queue-size."""

    host: str = field(default="127.0.0.1", metadata={"variable": "GRADIO_SERVER_NAME"})
    """address to listen on [also GRADIO_SERVER_NAME]"""
    port: int = field(default=7860, metadata={"variable": "GRADIO_SERVER_PORT"})
    """port to listen on; 0 takes any free one [also GRADIO_SERVER_PORT]"""
    root_path: str = field(default="", metadata={"variable": "GRADIO_ROOT_PATH"})
    """path of the page behind a reverse proxy, e.g. /studio [also GRADIO_ROOT_PATH]"""
    switch: Literal["auto", "yes", "no"] = "auto"
    """may users of the page change the model; auto: only if the page is for this machine alone"""
    hosts: str | None = None
    """host names under which a proxy serves the page, e.g. x2i.example.org, separated by commas"""
    login: str | None = field(default=None, repr=False)
    """name:password that users must enter; safer as a variable than as a flag"""
    share: bool = False
    """create a public share link; needs --login or --share-openly"""
    share_openly: bool = False
    """let everyone who has the share link in, without a login"""
    mcp: bool = False
    """let assistants generate images by the Model Context Protocol; needs the extra mcp"""
    openai_api: bool = False
    """answer at /v1 in the form of OpenAI's images API, for Open WebUI, LibreChat and scripts"""
    openai_key: str | None = field(default=None, repr=False)
    """key that clients of /v1 must send; safer as a variable than as a flag; not needed on this machine alone"""
    preview: bool = True
    """show a preview of the predicted image at each step"""
    linger: int = 300
    """seconds that a job continues after its page was closed or lost; 0 stops it at once"""
    queue_size: int = 64
    """jobs that may wait at once"""
    job_seconds: int | None = None
    """seconds that a job may take, 0 for no limit [default: none if the page is for this machine alone, else 600]"""
    keep_hours: int = 24
    """hours that the page keeps the images of a browser on disk; 0 keeps them only while the page is open"""

    def __post_init__(self):
        super().__post_init__()
        if self.root_path and not self.root_path.startswith(("/", "http://", "https://")):
            raise InvalidRequestError(
                f"root_path is {show_value(self.root_path)}; it must begin with /, as /studio does."
            )
        object.__setattr__(self, "root_path", self.root_path.rstrip("/"))
        object.__setattr__(self, "host", self.host.strip().removeprefix("[").removesuffix("]"))  # [::1], as in a URL
        _check_choice("switch", self.switch, ("auto", "yes", "no"))
        clean_numbers(self, _NUMBERS)
        if self.login is not None:
            name, _, password = self.login.partition(":")
            if not name.strip() or len(password) < _PASSWORD_LETTERS:
                raise InvalidRequestError(
                    f"login must be name:password with {_PASSWORD_LETTERS} characters or more in the password; "
                    "choose another."
                )
        if self.openai_key is not None and not re.fullmatch(rf"[!-~]{{{_KEY_LETTERS},}}", self.openai_key):
            raise InvalidRequestError(
                f"openai_key must be {_KEY_LETTERS} or more letters, digits and signs without spaces; choose another."
            )
        if self.openai_api and not self.openai_key and (self.login or not self.is_private):
            raise InvalidRequestError(
                "Everybody who can connect could use the OpenAI API; set X2I_OPENAI_KEY to a key that its clients must "
                "send, or leave out --openai-api."
            )

    @property
    def may_switch(self) -> bool:
        """Whether users of the page may change the model, which changes it for everyone."""
        return self.is_private if self.switch == "auto" else self.switch == "yes"

    @property
    def most_job_seconds(self) -> float:
        """How long a job may take; infinite without a limit."""
        default = 0 if self.is_private else _JOB_SECONDS
        return (default if self.job_seconds is None else self.job_seconds) or inf

    @property
    def is_private(self) -> bool:
        """Whether the page can only be opened on this machine, so that its users may name this machine's files."""
        others = self.share or self.hosts or self.root_path  # a proxy brings strangers to this machine's own address
        return self.host in ("127.0.0.1", "localhost", "::1") and not others


def read_parts(preset: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The parts of a preset that X2I_MLLM, X2I_FLUX, X2I_ALIGNNET and X2I_LIGHT_CONTROL name.

    They are for the preset in X2I_PRESET. Without that, they are for any but a bundled one, which has all its parts.
    """
    meant = environment.get("X2I_PRESET")
    if meant != preset if meant else not preset.startswith(CUSTOM) and get_preset(preset).directory:
        return {}
    found = {part: environment.get(f"X2I_{part.upper()}") for part in PARTS}
    return {part: value for part, value in found.items() if value}


MODEL_SETTINGS = tuple(each.name for each in fields(ModelSettings))


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidRequestError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")
