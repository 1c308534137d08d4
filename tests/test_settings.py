"""Settings: a flag wins over its X2I_* variable, which wins over the default; errors are one sentence."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from x2i_app.errors import InvalidRequestError, UnknownPresetError
from x2i_app.options import parse as parse_options
from x2i_app.presets import PRESETS
from x2i_app.settings import PARTS, PROFILES, Settings

ROOT = Path(__file__).resolve().parents[1]

# For every setting one value that is not its default.
OTHER_VALUES = {
    "preset": "qwen2.5-vl-3b",
    "flux": "flux.1-dev",
    "mllm": "some/folder",
    "light_control": "some/control.safetensors",
    "controlnet": "some/controlnet-canny",
    "kontext": True,
    "profile": "cpu",
    "alignnet": "some/file.bin",
    "models": "my/models",
    "whisper": "tiny",
    "device": "cuda:1",
    "keep_quantized": False,
    "compile": True,
    "metadata": False,
    "image_format": "webp",
    "wildcards": "my/lists",
    "output_template": "{seed}",
    "host": "0.0.0.0",
    "port": 8000,
    "root_path": "/studio",
    "switch": "no",
    "hosts": "x2i.example.org",
    "login": "ann:long enough",
    "share": True,
    "share_openly": True,
    "mcp": True,
    "openai_api": True,
    "openai_key": "a-key-that-is-long-enough",
    "preview": False,
    "linger": 20,
    "queue_size": 3,
    "job_seconds": 60,
    "keep_hours": 2,
}


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    return f"X2I_{name.upper()}"


def parse(*arguments: str, **environment: str) -> Settings:
    return parse_options(Settings, arguments, prog="x2i app", environment=environment)


def check_sentence(message: str) -> None:
    assert message.isprintable(), "one line without control characters"
    assert message.endswith((".", "?"))
    assert len(message) < 300


def test_defaults():
    assert parse() == Settings()
    assert (Settings().preset, Settings().host, Settings().share) == ("x2i-tiny", "127.0.0.1", False)


def test_other_values_cover_every_setting():
    assert [field.name for field in dataclasses.fields(Settings)] == list(OTHER_VALUES)
    assert all(getattr(Settings(), name) != value for name, value in OTHER_VALUES.items())


@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_flag_sets_only_its_setting(name, value):
    switches = {True: [flag(name)], False: [flag(f"no_{name}")]}
    is_switch = type(getattr(Settings(), name)) is bool
    arguments = switches[value] if is_switch else [flag(name), str(value)]
    assert parse(*arguments) == dataclasses.replace(Settings(), **{name: value})


@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_variable_sets_only_its_setting(name, value):
    preset = {"preset": "qwen2.5-vl-3b"} if name in PARTS else {}
    given = {variable(name): str(value) for name, value in (preset | {name: value}).items()}
    assert parse(**given) == dataclasses.replace(Settings(), **preset | {name: value})


@pytest.mark.parametrize(
    ("arguments", "environment", "mllm", "said"),
    [
        ([], {}, None, "X2I_MLLM is not used with x2i-tiny; set X2I_PRESET to the preset that it is for."),
        (["--preset", "x2i-tiny"], {}, None, "X2I_MLLM is not used with x2i-tiny; set X2I_PRESET to the preset"),
        (["--preset", "qwen2.5-vl-3b"], {}, "/7b", ""),
        (["--preset", "custom:qwen2.5-vl"], {}, "/7b", ""),
        ([], {"X2I_PRESET": "qwen2.5-vl-7b"}, "/7b", ""),
        ([], {"X2I_PRESET": "x2i-tiny"}, "/7b", ""),
        (
            ["--preset", "x2i-tiny"],
            {"X2I_PRESET": "qwen2.5-vl-7b"},
            None,
            "X2I_MLLM is not used with x2i-tiny; X2I_PRESET says that it is for qwen2.5-vl-7b.",
        ),
        (["--preset", "qwen2.5-vl-3b"], {"X2I_PRESET": "qwen2.5-vl-7b"}, None, "X2I_MLLM is not used with qwen2.5-vl"),
        (["--mllm", "/mine"], {}, "/mine", ""),
        (["--preset", "x2i-tiny", "--mllm", "/mine"], {"X2I_PRESET": "qwen2.5-vl-7b"}, "/mine", ""),
    ],
)
def test_a_part_is_for_the_preset_of_the_variables(capsys, arguments, environment, mllm, said):
    """--preset for another one leaves X2I_MLLM out, and says so; the other variables count, and so does --mllm."""
    settings = parse(*arguments, **environment, X2I_MLLM="/7b", X2I_PORT="8000")
    assert (settings.mllm, settings.port) == (mllm, 8000)
    told = capsys.readouterr().err
    assert told.startswith(f"x2i: {said}" if said else "")
    assert told.count("\n") == bool(said)


@pytest.mark.parametrize(
    ("arguments", "environment", "name", "value"),
    [
        (["--preset", "qwen2.5-vl-7b"], {"X2I_PRESET": "qwen2.5-vl-3b"}, "preset", "qwen2.5-vl-7b"),
        (["--port", "8001"], {"X2I_PORT": "8000"}, "port", 8001),
        (["--port", "7860"], {"X2I_PORT": "8000"}, "port", 7860),
        (["--no-share"], {"X2I_SHARE": "1"}, "share", False),
        (["--share"], {"X2I_SHARE": "0"}, "share", True),
    ],
)
def test_flag_wins_over_variable(arguments, environment, name, value):
    assert getattr(parse(*arguments, **environment), name) == value


def test_gradio_variables():
    """Gradio's own variables say where to listen; ours win over them, and empty ones do not count."""
    space = {
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": "7861",
        "GRADIO_ROOT_PATH": "/a/",
        "GRADIO_SHARE": "",
    }
    settings = parse(**space)
    assert (settings.host, settings.port, settings.root_path, settings.share) == ("0.0.0.0", 7861, "/a", False)
    assert parse(**space, X2I_PORT="8000").port == 8000
    with pytest.raises(InvalidRequestError, match="GRADIO_SERVER_PORT: 'http' is not a whole number"):
        parse(GRADIO_SERVER_PORT="http")


def test_root_path_begins_with_slash():
    with pytest.raises(InvalidRequestError, match="root_path is 'studio'; it must begin with /"):
        Settings(root_path="studio")


@pytest.mark.parametrize("text", ["1", "true", "True", "YES", "on", " on "])
def test_yes(text):
    assert parse(X2I_SHARE=text).share is True


@pytest.mark.parametrize("text", ["0", "false", "False", "NO", "off", " off "])
def test_no(text):
    assert parse(X2I_PREVIEW=text).preview is False


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_empty_variable_counts_as_none(name):
    assert parse(**{variable(name): ""}) == Settings()


def test_other_variables_are_ignored():
    assert parse(X2I_PORTAL="abc", PORT="abc") == Settings()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"X2I_PORT": "abc"}, "X2I_PORT: 'abc' is not a whole number"),
        ({"X2I_PORT": "8000.5"}, "X2I_PORT: '8000.5' is not a whole number"),
        ({"X2I_PORT": "a\nb"}, r"X2I_PORT: 'a\nb' is not"),
        ({"X2I_PORT": "65536"}, "port is 65536"),
        ({"X2I_PORT": "-1"}, "port is -1"),
        ({"X2I_PORT": "9" * 5000}, "X2I_PORT"),
        ({"X2I_QUEUE_SIZE": "0"}, "queue_size is 0"),
        ({"X2I_QUEUE_SIZE": "many"}, "X2I_QUEUE_SIZE: 'many' is not"),
        ({"X2I_SHARE": "maybe"}, "X2I_SHARE: 'maybe' is not 1 or 0"),
        ({"X2I_SHARE": "2"}, "X2I_SHARE: '2' is not 1 or 0"),
        ({"X2I_PROFILE": "turbo"}, "X2I_PROFILE: 'turbo' is not auto or full or 24gb"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_variable(environment, said):
    with pytest.raises(InvalidRequestError) as caught:
        parse(**environment)
    assert said in str(caught.value)
    check_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "abc"], "--port: 'abc' is not a whole number; x2i app --help lists what is allowed."),
        (["--port", "80.5"], "--port: '80.5' is not a whole number"),
        (["--port"], "--port"),
        (["--profile", "turbo"], "--profile: 'turbo' is not auto or full"),
        (["--share=maybe"], "maybe"),
        (["--color", "red"], "--color"),
        (["--portt", "80"], "--portt, 80; did you mean --port?"),
        (["a\nb"], "a b"),
        (["--color=\x1b[31m\r\nERROR fake"], "--color"),
        (["--profile", "a\nb"], "--profile"),
        (["--port", "70000"], "port is 70000; it must be 0 to 65535."),
        (["--queue-size", "-3"], "queue_size is -3; it must be 1 to 10000."),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_bad_flag(arguments, said):
    with pytest.raises(InvalidRequestError) as caught:
        parse(*arguments)
    assert said in str(caught.value)
    check_sentence(str(caught.value))


@pytest.mark.parametrize("value", [True, "8000", None, 80.5, float("nan")], ids=repr)
def test_python_callers_are_checked(value):
    with pytest.raises(InvalidRequestError, match=r"^port is "):
        Settings(port=value)


def test_whole_float_becomes_int():
    assert type(Settings(port=8000.0).port) is int


@pytest.mark.parametrize(("name", "value"), [("profile", "turbo"), ("switch", "maybe"), ("linger", 86_401)])
def test_python_values_out_of_range(name, value):
    with pytest.raises(InvalidRequestError, match=f"^{name} is {value!r}; "):
        Settings(**{name: value})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_allowed(profile):
    assert parse("--profile", profile).profile == profile


@pytest.mark.parametrize("preset", [*PRESETS, "custom:qwen2.5-vl", "custom:minicpm-o"])
def test_every_preset_is_allowed(preset):
    assert parse(X2I_PRESET=preset).preset == preset


@pytest.mark.parametrize("preset", ["gpt-9", "X2I-TINY", "custom", "qwen2.5-vl"])
def test_unknown_preset(preset):
    with pytest.raises(UnknownPresetError) as caught:
        parse(X2I_PRESET=preset)
    assert all(name in str(caught.value) for name in (preset, *PRESETS))


def test_unknown_family():
    """It is refused before anything is loaded."""
    with pytest.raises(UnknownPresetError, match="gpt"):
        parse("--preset", "custom:gpt")


@pytest.mark.parametrize("login", ["ann", ":long enough", "ann:short", "ann:1234567"])
def test_weak_login(login):
    with pytest.raises(InvalidRequestError, match="8 characters or more"):
        Settings(login=login)
    assert Settings(login="ann:12345678").login == "ann:12345678"


def test_login_is_not_shown():
    assert "secret" not in repr(Settings(login="ann:secret word"))


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(flag(name) in shown for name in OTHER_VALUES)
    assert "X2I_QUEUE_SIZE for --queue-size" in " ".join(shown.split())


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["app", "--port", "abc"], {}, "--port: 'abc' is not a whole number"),
        (["app"], {"X2I_PORT": "abc"}, "X2I_PORT: 'abc' is not a whole number"),
        (["app", "--port", "70000"], {}, "port is 70000"),
    ],
    ids=["bad flag", "bad variable", "out of range"],
)
def test_app_does_not_start_on_bad_settings(arguments, environment, said):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("X2I_")}
    command = [sys.executable, "-m", "x2i_app", *arguments]
    run = subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert said in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "may"),
    [
        ({}, True),
        ({"host": "localhost"}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"share": True}, False),
        ({"hosts": "x2i.example.org"}, False),
        ({"root_path": "/studio"}, False),
        ({"host": "0.0.0.0", "switch": "yes"}, True),
        ({"switch": "no"}, False),
    ],
)
def test_who_may_switch_the_model(given, may):
    """Only users of this machine, unless a setting says otherwise."""
    assert Settings(**given).may_switch is may
