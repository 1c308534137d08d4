"""Runtime settings: each a flag of `app` and `generate`, mirrored by an X2I_* environment variable.

`--preset qwen2.5-vl-3b` and X2I_PRESET=qwen2.5-vl-3b say the same; the flag wins. Where a page listens can also be said
with Gradio's own GRADIO_* variables, which is how a Hugging Face Space says it.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NoReturn

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import Range, show_value, validate_integer
from x2i_app.presets import MEMORY_PROFILES, PRESETS, get_family, get_preset

# The bundled miniature and the examples: inside the package where a wheel put them, in a checkout beside it.
_PACKAGE = Path(__file__).resolve().parent
ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"
PROFILES = ("auto", *MEMORY_PROFILES)
CUSTOM = "custom:"
SWITCH = ("auto", "yes", "no")
PARTS = ("flux", "mllm", "alignnet", "light_control")  # of a pipeline, each a file, a folder or a hub id
MODEL_SETTINGS = ("preset", *PARTS, "models", "whisper", "profile", "device")  # the others are a server's
FILE_SETTINGS = (*MODEL_SETTINGS, "metadata")  # of whatever writes pictures to files
_PASSWORD_LETTERS = 8


def _setting(default, help, choices=None, gradio=None, **options):
    return field(default=default, metadata={"help": help, "choices": choices, "gradio": gradio}, **options)


@dataclass(frozen=True)
class Settings:
    """What a running app is set to. Raises InvalidRequestError for a value that is not allowed."""

    preset: str = _setting("x2i-tiny", f"which X2I variant to load: {', '.join(PRESETS)}, or custom:FAMILY")
    flux: str | None = _setting(None, "FLUX.1 model: a name of the registry, a folder, a hub id or a .safetensors file")
    mllm: str | None = _setting(None, "MLLM: a folder or a hub id instead of the preset's")
    alignnet: str | None = _setting(None, "AlignNet: a file instead of the preset's")
    light_control: str | None = _setting(None, "LightControl: a file or a folder instead of the preset's")
    models: str = _setting("models", "folder with models, which is looked into before the hub: NAME or OWNER/NAME")
    whisper: str = _setting("base", "Whisper for MLLMs that cannot hear: a size, or a .pt file")
    profile: str = _setting("auto", "how to use memory", PROFILES)
    device: str | None = _setting(None, "torch device, e.g. cuda, cuda:1, mps or cpu")
    metadata: bool = _setting(True, "write how each picture was made into its PNG file")
    host: str = _setting("127.0.0.1", "address to listen on", gradio="GRADIO_SERVER_NAME")
    port: int = _setting(7860, "port to listen on; 0 takes any free one", gradio="GRADIO_SERVER_PORT")
    root_path: str = _setting("", "path of the page behind a reverse proxy, e.g. /studio", gradio="GRADIO_ROOT_PATH")
    switch: str = _setting("auto", "may the page change the model: auto is yes for this machine alone", SWITCH)
    hosts: str | None = _setting(None, "names under which a proxy serves it, e.g. x2i.example.org; commas between them")
    login: str | None = _setting(
        None, "name:password that visitors must give; better as a variable than as a flag", repr=False
    )
    share: bool = _setting(False, "make a public share link; needs a login, or --share-openly")
    share_openly: bool = _setting(False, "let everybody who has the share link in, without a login")
    mcp: bool = _setting(False, "let assistants draw, by the Model Context Protocol; needs the extra mcp")
    preview: bool = _setting(True, "show what the picture is going to be at each step")
    linger: int = _setting(300, "seconds that a job goes on after its page was closed or lost; 0 stops it at once")
    queue_size: int = _setting(64, "jobs that may wait at once")

    def __post_init__(self):
        if self.preset.startswith(CUSTOM):
            get_family(self.preset.removeprefix(CUSTOM))
        else:
            get_preset(self.preset)
        if self.profile not in PROFILES:
            raise InvalidRequestError(f"profile is {self.profile!r}; choose one of {', '.join(PROFILES)}.")
        if self.root_path and not self.root_path.startswith(("/", "http://", "https://")):
            raise InvalidRequestError(
                f"root_path is {show_value(self.root_path)}; it must begin with /, as /studio does."
            )
        object.__setattr__(self, "root_path", self.root_path.rstrip("/"))
        if self.switch not in SWITCH:
            raise InvalidRequestError(f"switch is {self.switch!r}; choose one of {', '.join(SWITCH)}.")
        for name, allowed in (
            ("port", Range(0, 65_535)),
            ("queue_size", Range(1, 10_000)),
            ("linger", Range(0, 86_400)),
        ):
            object.__setattr__(self, name, validate_integer(name, getattr(self, name), allowed))
        if self.login is not None:
            name, _, password = self.login.partition(":")
            if not name.strip() or len(password) < _PASSWORD_LETTERS:
                raise InvalidRequestError(
                    f"login must be name:password with {_PASSWORD_LETTERS} letters or more of password; choose another."
                )

    @property
    def may_switch(self) -> bool:
        """Whether visitors of the page may change the model for everybody."""
        return self.is_private if self.switch == "auto" else self.switch == "yes"

    @property
    def is_private(self) -> bool:
        """Whether only who sits at this machine can open the page; nobody else may name its files."""
        others = self.share or self.hosts or self.root_path  # a proxy brings strangers to this machine's own address
        return self.host in ("127.0.0.1", "localhost", "::1") and not others

    @classmethod
    def parse(cls, arguments: Sequence[str], environment: Mapping[str, str] = os.environ):
        """Settings from flags, then X2I_* variables, then defaults."""
        parser = SentenceParser(prog="app.py", description=__doc__.splitlines()[0])
        add_settings(parser, environment)
        return cls.from_namespace(parser.parse_args(list(arguments)))

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace):
        """Settings from parsed flags; see `add_settings`."""
        return cls(**{f.name: getattr(namespace, f.name) for f in fields(cls)})


class SentenceParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on standard error and exit status 2."""

    def error(self, message: str) -> NoReturn:
        # argparse quotes most values, but "unrecognized arguments" as they came: line breaks, terminal codes and all.
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        self.exit(2, f"{self.prog}: {message}; --help lists what is allowed.\n")


def add_settings(
    parser: argparse.ArgumentParser,
    environment: Mapping[str, str] = os.environ,
    names: Sequence[str] | None = None,
) -> None:
    """Give `parser` a flag for each setting (or those in `names`); X2I_* variables become the flags' defaults."""
    for setting in fields(Settings):
        if names is not None and setting.name not in names:
            continue
        variable = f"X2I_{setting.name.upper()}"
        default = setting.default
        kind = type(default) if isinstance(default, int) else str
        given = next(filter(environment.get, filter(None, (variable, setting.metadata["gradio"]))), None)
        if given:
            default = _from_text(given, environment[given], kind)
        options = {"default": default, "help": f"{setting.metadata['help']} [{variable}]"}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": kind, "metavar": kind.__name__.upper()}
            if setting.metadata["choices"]:
                options |= {"choices": setting.metadata["choices"], "metavar": None}
        parser.add_argument(f"--{setting.name.replace('_', '-')}", **options)


_WORDS = {"1": True, "true": True, "yes": True, "on": True}
_WORDS |= {"0": False, "false": False, "no": False, "off": False}


def _from_text(variable, text, kind):
    try:
        return _WORDS[text.strip().lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = "1 or 0" if kind is bool else "a whole number"
        raise InvalidRequestError(f"{variable} is {show_value(text)}; it must be {wanted}.") from None
