"""Is each guard needed? .venv/bin/python -m tests.safety.guards [WORDS OF SOME]

Of each guard below, a copy of the project is made that lacks it and nothing else, and the attack that it should stop is
run against the copy: it must succeed there, that is, its test must fail. `test_guards.py` does so with the first five,
which take no server and no torch. All of them take a few minutes.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_COPIED = ("x2i_app", "tests", "docs", "app.py", "pyproject.toml", "requirements.txt", "README.md", "SECURITY.md")


class Guard(NamedTuple):
    """What it keeps out; its file, its code, and what stands there without it; the test that attacks it."""

    what: str
    file: str
    code: str
    without: str
    attack: str


QUICK = (
    Guard(
        "files by their content",
        "media/guard.py",
        "    kind = _recognise(head)\n",
        '    kind = _recognise(head) or KINDS["MP4"]\n',
        "media/test_guard.py::test_other_files_are_called_by_their_name",
    ),
    Guard(
        "sizes before decoding",
        "media/images.py",
        "        _check_caps(image, name, caps)\n        yield image",
        "        yield image",
        "media/test_images.py::test_bombs_are_refused_before_they_are_decoded",
    ),
    Guard(
        "the limits of ffmpeg",
        "media/remux.py",
        'ulimit -f "$3" 2>/dev/null || :',
        ":",
        "media/test_remux.py::test_the_limits_bite",
    ),
    Guard(
        "ffmpeg's wall time",
        "media/remux.py",
        "os.killpg(child.pid, signal.SIGKILL)",
        "child.terminate()",
        "media/test_remux.py::test_a_hanging_ffmpeg_is_killed_with_its_children",
    ),
    Guard(
        "places in the queue for each session",
        "jobs.py",
        "if len(mine) >= self.per_session:",
        "if False:",
        "test_jobs.py::test_a_session_may_not_fill_the_queue_alone",
    ),
)
OTHERS = (
    Guard(
        "pickles without code",
        "loading/checkpoints.py",
        'torch.load(path, map_location="cpu", weights_only=True)',
        'torch.load(path, map_location="cpu", weights_only=False)',
        "safety/test_weights.py::test_t14_a_pickle_is_not_run_under_any_name",
    ),
    Guard(
        "archives that are stored as they are",
        "loading/checkpoints.py",
        "    _check_archive(path)\n",
        "",
        "safety/test_weights.py::test_t15_entries_that_share_their_bytes_are_refused_before_they_are_read",
    ),
    Guard(
        "as many numbers as the file has",
        "loading/checkpoints.py",
        "    _check_bytes(path, content)\n",
        "",
        "safety/test_weights.py::test_t15_weights_that_claim_more_numbers_than_the_file_has",
    ),
    Guard(
        "the rank of a LoRA",
        "loading/lora.py",
        "if rank > LIMITS.lora_rank:",
        "if False:",
        "loading/test_lora.py::test_what_is_no_lora_for_this_model_is_refused_and_nothing_has_changed",
    ),
    Guard(
        "a LoRA of no more tensors than any needs",
        "loading/lora.py",
        "if count > LIMITS.lora_tensors:",
        "if False:",
        "loading/test_lora_upload.py::test_what_is_refused_is_told_by_its_name_alone",
    ),
    Guard(
        "an older checkpoint where the newest is damaged",
        "training/checkpoints.py",
        "continue  # damaged from outside: an older one will do",
        "raise",
        "training/test_loop.py::test_damaged_and_half_written_checkpoints_are_passed_over",
    ),
    Guard(
        "our own host names",
        "ui/gate.py",
        "if not self._hosts.allows(host):",
        "if False:",
        "safety/test_gate.py::test_t6_another_name_is_not_ours",
    ),
    Guard(
        "the same origin",
        "ui/gate.py",
        "if origin is not None and",
        "if False and",
        "safety/test_gate.py::test_t5_another_page_may_not_ask",
    ),
    Guard(
        "routes that are needed",
        "ui/gate.py",
        "if not (is_mcp or is_open(method, path)):",
        "if False:",
        "safety/test_gate.py::test_t8_what_the_page_does_not_need_is_closed",
    ),
    Guard(
        "files that were uploaded here",
        "ui/payloads.py",
        "    _check_files(payload, Path(app.uploaded_file_dir).resolve())\n",
        "",
        "safety/test_isolation.py::test_t1_no_function_takes_a_file_that_was_not_uploaded",
    ),
    Guard(
        "a cap on the length that a request states",
        "ui/gate.py",
        "_check_length(request, JSON_BYTES)",
        "pass",
        "safety/test_bodies.py::test_t3_the_refusal_says_what_came_and_what_is_allowed",
    ),
    Guard(
        "a cap on a body of no stated length",
        "ui/gate.py",
        "if len(body) > JSON_BYTES:",
        "if False:",
        "safety/test_bodies.py::test_t3_a_body_above_the_cap_is_refused_before_it_fills_the_memory[json-chunked]",
    ),
    Guard(
        "logins that are counted",
        "ui/gate.py",
        "        self._backoff.tried()\n",
        "",
        "safety/test_login.py::test_t7_with_the_cookie_they_open_and_after_twenty_wrong_logins_nobody_may_try",
    ),
    Guard(
        "the cookie of who is logged in",
        "ui/gate.py",
        "if self._has_login and needs_login(method, path) and not is_logged_in(request):",
        "if False:",
        "safety/test_login.py::test_t7_without_a_cookie_every_route_but_the_page_is_closed",
    ),
    Guard(
        "our own way of taking files, also after an update",
        "ui/page.py",
        "setattr(state[block._id], name, getattr(block, name))",
        "pass",
        "safety/test_page.py::test_t11_a_page_that_was_updated_takes_no_other_files_than_a_fresh_one",
    ),
    Guard(
        "words that are shown as words",
        "ui/running.py",
        "gr.Error(html.escape(str(error))",
        "gr.Error((str(error))",
        "safety/test_page.py::test_t9_what_a_stranger_wrote_is_no_html_in_an_error",
    ),
)


def succeeds_without(guard: Guard, folder: Path) -> bool:
    """Whether the attack gets through in a copy of the project, made in `folder`, that lacks the guard."""
    for name in _COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / "assets").symlink_to(ROOT / "assets")
    path = folder / "x2i_app" / guard.file
    text = path.read_text(encoding="utf-8")
    if text.count(guard.code) != 1:
        raise LookupError(
            f"{guard.file} has {guard.code!r} {text.count(guard.code)} times; tell this list where it is."
        )
    path.write_text(text.replace(guard.code, guard.without), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{guard.attack}"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if run.returncode == 0 or not re.search(r"^FAILED ", run.stdout, re.MULTILINE):  # nor is it an error elsewhere
        print(run.stdout[-2000:], run.stderr[-2000:], sep="\n")
        return False
    return True


def main() -> int:
    """All of them, or those in whose description the words are, a line each; how many were not needed."""
    idle, words = 0, " ".join(sys.argv[1:])
    for guard in (guard for guard in QUICK + OTHERS if words in guard.what):
        with tempfile.TemporaryDirectory() as folder:
            needed = succeeds_without(guard, Path(folder))
        idle += not needed
        print(f"{'needed' if needed else 'IDLE'}: {guard.what} ({guard.file}), by {guard.attack}", flush=True)
    return idle


if __name__ == "__main__":
    sys.exit(main())
