"""Settings: a flag wins over its X2I_* variable, which wins over the default; what is wrong is said in one line."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from x2i_app.errors import InvalidRequestError, UnknownPresetError
from x2i_app.presets import PRESETS
from x2i_app.settings import PROFILES, Settings

ROOT = Path(__file__).resolve().parents[1]

# For every setting one value that is not its default.
OTHER_VALUES = {
    "preset": "qwen2.5-vl-3b",
    "flux": "flux.1-dev",
    "mllm": "some/folder",
    "alignnet": "some/file.bin",
    "light_control": "some/control.safetensors",
    "models": "my/models",
    "whisper": "tiny",
    "profile": "cpu",
    "device": "cuda:1",
    "metadata": False,
    "host": "0.0.0.0",
    "port": 8000,
    "root_path": "/studio",
    "switch": "no",
    "hosts": "x2i.example.org",
    "login": "ann:long enough",
    "share": True,
    "share_openly": True,
    "mcp": True,
    "preview": False,
    "linger": 20,
    "queue_size": 3,
}


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    return f"X2I_{name.upper()}"


def parse(*arguments: str, **environment: str) -> Settings:
    return Settings.parse(arguments, environment)


def refused_line(capsys, *arguments: str) -> str:
    """The one line on standard error with which the arguments are refused; checks the exit status."""
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    written = capsys.readouterr()
    assert (caught.value.code, written.out) == (2, "")
    assert written.err.endswith("\n")
    assert written.err[:-1].isprintable(), "one line without control characters"
    return written.err


def check_sentence(message: str) -> None:
    assert message.isprintable()
    assert message.endswith(".")
    assert len(message) < 300


def test_without_flags_and_variables_there_are_the_defaults():
    assert parse() == Settings()
    assert (Settings().preset, Settings().host, Settings().share) == ("x2i-tiny", "127.0.0.1", False)


def test_the_values_below_cover_every_setting():
    assert [field.name for field in dataclasses.fields(Settings)] == list(OTHER_VALUES)
    assert all(getattr(Settings(), name) != value for name, value in OTHER_VALUES.items())


@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_a_flag_sets_its_setting_and_nothing_else(name, value):
    switches = {True: [flag(name)], False: [flag(f"no_{name}")]}
    arguments = switches[value] if isinstance(value, bool) else [flag(name), str(value)]
    assert parse(*arguments) == dataclasses.replace(Settings(), **{name: value})


@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_a_variable_sets_its_setting_and_nothing_else(name, value):
    assert parse(**{variable(name): str(value)}) == dataclasses.replace(Settings(), **{name: value})


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
def test_the_flag_wins_over_the_variable(arguments, environment, name, value):
    assert getattr(parse(*arguments, **environment), name) == value


def test_gradio_s_own_variables_say_where_to_listen_and_ours_win_over_them():
    space = {
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": "7861",
        "GRADIO_ROOT_PATH": "/a/",
        "GRADIO_SHARE": "",
    }
    settings = parse(**space)
    assert (settings.host, settings.port, settings.root_path, settings.share) == ("0.0.0.0", 7861, "/a", False)
    assert parse(**space, X2I_PORT="8000").port == 8000
    with pytest.raises(InvalidRequestError, match="GRADIO_SERVER_PORT is 'http'"):
        parse(GRADIO_SERVER_PORT="http")


def test_a_root_path_begins_with_a_slash():
    with pytest.raises(InvalidRequestError, match="root_path is 'studio'; it must begin with /"):
        Settings(root_path="studio")


@pytest.mark.parametrize("text", ["1", "true", "True", "YES", "on", " on "])
def test_words_that_mean_yes(text):
    assert parse(X2I_SHARE=text).share is True


@pytest.mark.parametrize("text", ["0", "false", "False", "NO", "off", " off "])
def test_words_that_mean_no(text):
    assert parse(X2I_SHARE=text).share is False


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_an_empty_variable_counts_as_none(name):
    assert parse(**{variable(name): ""}) == Settings()


def test_variables_of_other_names_are_left_alone():
    assert parse(X2I_PORTAL="abc", PORT="abc") == Settings()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"X2I_PORT": "abc"}, "X2I_PORT is 'abc'"),
        ({"X2I_PORT": "8000.5"}, "X2I_PORT is '8000.5'"),
        ({"X2I_PORT": "a\nb"}, r"X2I_PORT is 'a\nb'"),
        ({"X2I_PORT": "65536"}, "port is 65536"),
        ({"X2I_PORT": "-1"}, "port is -1"),
        ({"X2I_PORT": "9" * 5000}, "X2I_PORT"),
        ({"X2I_QUEUE_SIZE": "0"}, "queue_size is 0"),
        ({"X2I_QUEUE_SIZE": "many"}, "X2I_QUEUE_SIZE is 'many'"),
        ({"X2I_SHARE": "maybe"}, "X2I_SHARE is 'maybe'"),
        ({"X2I_SHARE": "2"}, "X2I_SHARE is '2'"),
        ({"X2I_PROFILE": "turbo"}, "profile is 'turbo'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_variable_is_refused_by_name(environment, said):
    with pytest.raises(InvalidRequestError) as caught:
        parse(**environment)
    assert said in str(caught.value)
    check_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "abc"], "abc"),
        (["--port", "80.5"], "80.5"),
        (["--port"], "--port"),
        (["--profile", "turbo"], "turbo"),
        (["--share=maybe"], "--share"),
        (["--colour", "red"], "--colour"),
        (["a\nb"], "a"),
        (["--colour=\x1b[31m\r\nERROR fake"], "--colour"),
        (["--profile", "a\nb"], "profile"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_flag_is_one_line_and_exit_status_2(capsys, arguments, said):
    assert said in refused_line(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--port", "70000"], "port is 70000"), (["--queue-size", "-3"], "queue_size is -3")],
)
def test_a_flag_out_of_range_is_refused_with_the_range(arguments, said):
    with pytest.raises(InvalidRequestError, match=f"{said}; it must be .* to "):
        parse(*arguments)


@pytest.mark.parametrize("value", [True, "8000", None, 80.5, float("nan")], ids=repr)
def test_python_callers_are_checked_as_well(value):
    with pytest.raises(InvalidRequestError, match=r"^port is "):
        Settings(port=value)


def test_a_whole_float_is_stored_as_an_int():
    assert type(Settings(port=8000.0).port) is int


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_allowed(profile):
    assert parse("--profile", profile).profile == profile


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_of_the_registry_is_allowed(preset):
    assert parse(X2I_PRESET=preset).preset == preset


@pytest.mark.parametrize("preset", ["custom:qwen2.5-vl", "custom:minicpm-o"])
def test_a_custom_preset_is_allowed(preset):
    assert parse("--preset", preset).preset == preset


@pytest.mark.parametrize("preset", ["gpt-9", "X2I-TINY", "custom", "qwen2.5-vl"])
def test_an_unknown_preset_is_refused_with_the_names_there_are(preset):
    with pytest.raises(UnknownPresetError) as caught:
        parse(X2I_PRESET=preset)
    assert all(name in str(caught.value) for name in (preset, *PRESETS))


def test_a_custom_preset_of_an_unknown_family_is_refused_before_anything_loads():
    with pytest.raises(UnknownPresetError, match="gpt"):
        parse("--preset", "custom:gpt")


def test_help_names_every_flag_and_variable(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(flag(name) in shown and variable(name) in shown for name in OTHER_VALUES)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["app", "--port", "abc"], {}, "--port: invalid int value: 'abc'"),
        (["app"], {"X2I_PORT": "abc"}, "X2I_PORT is 'abc'"),
        (["app", "--port", "70000"], {}, "port is 70000"),
    ],
    ids=["bad flag", "bad variable", "out of range"],
)
def test_the_app_does_not_start_on_bad_settings(arguments, environment, said):
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
        ({"host": "0.0.0.0"}, False),
        ({"share": True}, False),
        ({"host": "0.0.0.0", "switch": "yes"}, True),
        ({"switch": "no"}, False),
    ],
)
def test_visitors_may_change_the_model_only_on_this_machine_unless_that_is_said(given, may):
    assert Settings(**given).may_switch is may
