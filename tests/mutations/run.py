"""Put deliberate mistakes into a copy of the repository, one at a time, and report which ones the tests notice.

    python tests/mutations/run.py --area media --jobs 2
    python tests/mutations/run.py --only "jobs.py" --only "*guard*"
    python tests/mutations/run.py --sample 20 --seed 1

Run by hand: pytest does not collect this file. Each `tests/mutations/<area>.yaml` is a list of mutations:

    - file: x2i_app/media/guard.py
      old: "size > cap"           # must occur exactly once in the file
      new: "size >= cap"
      tests: tests/media/test_guard.py -k cap   # arguments of pytest
      why: A file of exactly the cap was refused.    # optional

A mutation is `noticed` if its tests fail with it and pass without it.
"""

import argparse
import compileall
import contextlib
import fnmatch
import multiprocessing
import os
import py_compile
import queue
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTICED, UNNOTICED, NOT_APPLICABLE, BROKEN = "noticed", "NOT NOTICED", "does not apply", "TESTS BROKEN"
_FAILED, _INTERRUPTED = 1, 2  # pytest's exit statuses for failed tests, and for tests that cannot be imported

# A server imports these once, in about 10 s, and forks a process for each run of the tests. It must not import
# what is mutated.
_PRELOADED = [
    *("torch", "gradio", "gradio_client", "pandas", "peft", "bitsandbytes", "accelerate", "mcp.server", "tyro"),
    *("diffusers.pipelines.auto_pipeline", "diffusers.pipelines.flux", "transformers.models.auto.modeling_auto"),
    *("transformers.models.clip.modeling_clip", "transformers.models.t5.modeling_t5"),
    *("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "hypothesis", "xdist.plugin", "_pytest.assertion.rewrite"),
]
_SERVER = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Mutation:
    """One deliberate mistake: in `file`, the text `old` becomes `new`; `tests` are the arguments of pytest."""

    area: str
    file: str
    old: str
    new: str
    tests: str
    why: str = ""

    @property
    def title(self) -> str:
        """The mutation in one row of the table."""
        change = f"{self.old.strip()} -> {self.new.strip()}".replace("\n", "\\n")
        return f"{self.area}: {self.file}: {self.why or change}"[:160]


def read_mutations(folder: Path = HERE) -> list[Mutation]:
    """All mutations of the folder's YAML files, in the files' order."""
    mutations = []
    for path in sorted(folder.glob("*.yaml")):
        for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")) or [], 1):
            try:
                mutations.append(Mutation(area=path.stem, **entry))
            except TypeError as error:
                raise SystemExit(f"{path.name}, entry {number}: {error}") from error
    return mutations


def matches(mutation: Mutation, patterns: list[str]) -> bool:
    """Whether a pattern, a glob or a part of the text, fits the mutation's file, texts or reason."""
    texts = (mutation.file, mutation.old, mutation.new, mutation.why, mutation.tests)
    return any(pattern in text or fnmatch.fnmatch(text, pattern) for pattern in patterns for text in texts)


def copy_repository(target: Path) -> Path:
    """A copy of the working tree: tracked files, and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    # Mistakes are noticed by content, not by time: a file may change twice in a second.
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(target / "x2i_app", quiet=1, invalidation_mode=checked)
    # Some tests ask git which files there are.
    for arguments in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *arguments], cwd=target, check=True)
    return target


def run_tests(copy: Path, tests: str, limit: float) -> tuple[int | None, str]:
    """Run pytest in the copy; its exit status, None if it took longer than `limit` seconds, and its output."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as output:
        process = _SERVER.Process(target=_run_pytest, args=(copy, shlex.split(tests), output.name))
        process.start()
        process.join(limit)
        status = process.exitcode
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that the tests started and left behind
        process.join()
        return status, output.read()


def _run_pytest(copy: Path, tests: list[str], output: str) -> None:
    """In a process that the server forked: become `python -m pytest` in the copy, writing to the file `output`."""
    os.setsid()
    os.chdir(copy)
    log = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    sys.path[0] = str(copy)
    options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-n", "0", "--durations=0"]
    status = pytest.main([*options, *tests])
    sys.stdout.flush()
    os._exit(status)  # without waiting for the threads that a mistake may have left running


class Runner:
    """Tries mutations in a few copies of the repository, one mutation a copy at a time."""

    def __init__(self, copies: list[Path], limit: float, verbose: bool):
        self.copies: queue.Queue[Path] = queue.Queue()
        for copy in copies:
            self.copies.put(copy)
        self.limit, self.verbose = limit, verbose
        self.unchanged: dict[str, bool] = {}  # tests -> whether they pass without a mutation
        self.lock = threading.Lock()

    def verdict(self, mutation: Mutation) -> tuple[str, str]:
        """The verdict on one mutation, and what there is to say about it."""
        copy = self.copies.get()
        try:
            return self._verdict(copy, mutation)
        finally:
            self.copies.put(copy)

    def _verdict(self, copy: Path, mutation: Mutation) -> tuple[str, str]:
        path = copy / mutation.file
        if not path.is_file():
            return NOT_APPLICABLE, "no such file"
        original = path.read_text(encoding="utf-8")
        if (count := original.count(mutation.old)) != 1 or mutation.old == mutation.new:
            return NOT_APPLICABLE, f"`old` occurs {count} times" if count != 1 else "`new` equals `old`"
        try:
            path.write_text(original.replace(mutation.old, mutation.new), encoding="utf-8")
            status, output = run_tests(copy, mutation.tests, self.limit)
        finally:
            path.write_text(original, encoding="utf-8")
        if self.verbose:
            print(output, flush=True)
        if status == 0:
            return UNNOTICED, ""
        if status not in (None, _FAILED, _INTERRUPTED):
            return BROKEN, f"pytest ended with {status}: {output.strip().splitlines()[-1:]}"
        if not self._pass_unchanged(copy, mutation.tests):
            return BROKEN, "they fail without the mutation too"
        return NOTICED, "by the time limit" if status is None else ""

    def _pass_unchanged(self, copy: Path, tests: str) -> bool:
        if tests not in self.unchanged:
            status, output = run_tests(copy, tests, self.limit)
            if self.verbose and status:
                print(output, flush=True)
            with self.lock:
                self.unchanged[tests] = status == 0
        return self.unchanged[tests]


def main() -> int:
    """Try the chosen mutations and print a table; 0 if the tests notice every one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--area", action="append", help="only this file of mutations, without .yaml; may be repeated")
    parser.add_argument("--only", action="append", help="only mutations with this glob or text; may be repeated")
    parser.add_argument("--sample", type=int, help="only so many of them, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="which ones `--sample` chooses (0)")
    parser.add_argument("--jobs", type=int, default=1, help="how many mutations to try at a time (1)")
    parser.add_argument(
        "--limit", type=float, default=600, help="seconds that the tests of one mutation may take (600)"
    )
    parser.add_argument("--verbose", action="store_true", help="show what pytest prints")
    options = parser.parse_args()
    mutations = [m for m in read_mutations() if not options.area or m.area in options.area]
    mutations = [m for m in mutations if not options.only or matches(m, options.only)]
    if not mutations:
        raise SystemExit("No mutation fits --area and --only.")
    if options.sample is not None:
        mutations = random.Random(options.seed).sample(mutations, min(options.sample, len(mutations)))

    defaults = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}  # the libraries read them when they are imported
    os.environ.update(defaults | os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    _SERVER.set_forkserver_preload(_PRELOADED)

    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copies = [copy_repository(Path(folder) / str(number)) for number in range(options.jobs)]
        runner, results = Runner(copies, options.limit, options.verbose), []

        def try_one(mutation: Mutation) -> None:
            start = time.monotonic()
            verdict, detail = runner.verdict(mutation)
            results.append((mutation, verdict, detail))
            seconds = time.monotonic() - start
            print(f"[{len(results)}/{len(mutations)}] {verdict}, {seconds:.0f} s: {mutation.title}", detail, flush=True)

        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(try_one, mutations))

    print("\n| area | " + " | ".join((NOTICED, UNNOTICED, NOT_APPLICABLE, BROKEN)) + " |\n|---|---|---|---|---|")
    for area in [*sorted({m.area for m in mutations}), "all"]:
        verdicts = [verdict for m, verdict, _ in results if area in (m.area, "all")]
        counts = [str(verdicts.count(verdict)) for verdict in (NOTICED, UNNOTICED, NOT_APPLICABLE, BROKEN)]
        print(f"| {area} | " + " | ".join(counts) + " |")
    for mutation, verdict, detail in results:
        if verdict != NOTICED:
            print(f"{verdict}: {mutation.title} {detail}")
    return 0 if all(verdict == NOTICED for _, verdict, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
