"""The newest routes under attack, for SECURITY.md: python -m tests.benchmarks.bench_attacks

Strangers send what is malformed, huge, slow or too much to the OpenAI API, the prompts of a batch, a file of styles,
restored settings, kept images and kept jobs. Meanwhile somebody else draws the smallest image again and again, and
/health is asked five times a second. For each attack it prints the answers, how long both took, and what is left.
Each attack has a fixed number of requests; all take about three minutes on two cores.
"""

import argparse
import io
import json
import multiprocessing
import secrets
import statistics
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from PIL.PngImagePlugin import PngInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # like pytest

from tests.conftest import App, run_app
from tests.safety.client import CALL, SETTINGS, UPLOAD, Answer, as_file, ask, connect, in_parallel

HOST, KEY = "x2i.example.org", "a-key-that-nobody-guesses"
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
CANARY = "192.0.2.200"  # the address of the visitor who only draws
WIDTH = 16  # requests at once
PAUSE = 0.2  # seconds between two jobs, and two looks at /health
LEAST_SECONDS, MOST_ROUNDS = 8, 5  # of an attack
QUIET = 12  # jobs after all attacks
SMALLEST = {"prompt": "a red house", "size": "64x64", "steps": 1}
ODD = (
    *(-1, 0, 2.5, 10**9, 10**300, 1e308, True, False, "", "5", "a" * 300, "\0", "\ud800", "<img src=x onerror=1>"),
    *(
        [],
        {},
        [[]],
        [None],
        [5] * 5000,
        {"a": {"b": 1}},
        [{"file": "/etc/passwd", "weight": 1e308}],
        "../../etc/passwd",
    ),
)
FIELDS = (
    *("prompt", "model", "size", "response_format", "output_format", "user", "negative_prompt", "n", "stream"),
    *("background", "quality", "style", "output_compression", "steps", "guidance", "seed", "reason", "true_cfg_scale"),
    *("fast", "loras", "image", "mask", "a field"),
)


class Attackers:
    """Sends requests as strangers behind the proxy, and counts the answers."""

    def __init__(self, app: App):
        self.url = app.url
        self.answers: Counter[int] = Counter()
        self.failed: list[str] = []
        config = self.ask("GET", "/config").json()
        self.functions = {function["api_name"]: function for function in config["dependencies"]}

    def ask(self, method: str, path: str, body: Any = None, address: int = 1, **headers: str) -> Answer:
        """One request. address: the last number of the stranger's."""
        given = {"Host": HOST, "X-Forwarded-For": f"192.0.2.{address}", "Authorization": f"Bearer {KEY}"} | headers
        try:
            answer = ask(self.url, method, path, body, given)
        except (OSError, HTTPException):  # refused while the body is sent
            answer = Answer(0, {}, "")
        self.answers[answer.status] += 1
        # Gradio answers a function of the page with 500 too, when it has refused a value in a sentence.
        is_sentence = answer.status != 500 or '"error":' in answer.text
        if not is_sentence or (answer.status != 200 and "internal error" in answer.text):
            self.failed.append(f"{method} {path} {str(body)[:150]}: {answer.status} {answer.text[:300]}")
        return answer

    def all(self, *calls: Callable[[], Any]) -> None:
        """Make the calls, some at a time."""
        for start in range(0, len(calls), WIDTH):
            in_parallel(lambda call: call(), calls[start : start + WIDTH])

    def generate(self, body: Any, address: int = 1, **headers: str) -> Answer:
        return self.ask("POST", GENERATIONS, body, address, **headers)

    def edit(self, *parts: tuple[str, str | None, bytes], address: int = 1) -> Answer:
        """A multipart call. parts: field, file name or None, and content."""
        return self.ask("POST", EDITS, form(*parts), address, **{"Content-Type": "multipart/form-data; boundary=B"})

    def upload(self, name: str, content: bytes, address: int = 1) -> dict[str, Any]:
        """A file as the page names it after the upload."""
        kind = {"Content-Type": "multipart/form-data; boundary=B"}
        for _ in range(10):  # a client has four uploads at once
            answer = self.ask("POST", UPLOAD, form(("files", name, content)), address, **kind)
            if answer.status != 503:
                break
            time.sleep(0.3)
        return as_file(answer.json()[0] if answer.status == 200 else "not uploaded")

    def call(self, name: str, data: list, address: int = 1, session: str = "", **more: Any) -> Answer:
        """A function of the page."""
        body = {"data": data, "fn_index": self.functions[name]["id"], "session_hash": session or secrets.token_hex(6)}
        return self.ask("POST", f"/gradio_api/run/{name}", body | more, address)

    def join(self, name: str, data: list, address: int = 1, session: str = "") -> None:
        """A function of the page by its queue, until it ends or half a minute has passed."""
        session = session or secrets.token_hex(6)
        body = {"data": data, "fn_index": self.functions[name]["id"], "session_hash": session}
        if self.ask("POST", "/gradio_api/queue/join", body, address, Origin=f"http://{HOST}").status == 200:
            self.listen(f"/gradio_api/queue/data?session_hash={session}", address)

    def listen(self, path: str, address: int, seconds: float = 30) -> None:
        """Read a stream of events until it ends."""
        head = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 192.0.2.{address}\r\n\r\n"
        deadline = time.monotonic() + seconds
        with connect(self.url) as stream:
            stream.sendall(head.encode())
            text = b""
            while b"close_stream" not in text[-2000:] and time.monotonic() < deadline and (got := stream.recv(65536)):
                text += got


def form(*parts: tuple[str, str | None, bytes]) -> bytes:
    """A multipart body with the boundary B."""
    body = b""
    for field, name, content in parts:
        file = f'; filename="{name}"' if name is not None else ""
        body += f'--B\r\nContent-Disposition: form-data; name="{field}"{file}\r\n\r\n'.encode() + content + b"\r\n"
    return body + b"--B--\r\n"


def png(width: int, height: int, bits: int = 8, color: int = 2, data: bytes = b"", text: str = "") -> bytes:
    """A PNG that claims this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    texts = chunk(b"tEXt", b"x2i\0" + text.encode("latin-1", "replace")) if text else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + texts + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


def noise(side: int) -> bytes:
    """A large valid PNG, about 3 bytes a pixel."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)).save(
        file, "PNG", compress_level=0
    )
    return file.getvalue()


def with_settings(text: str) -> bytes:
    """A PNG of the app's, with these settings."""
    file, texts = io.BytesIO(), PngInfo()
    texts.add_text("x2i", text)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=texts)
    return file.getvalue()


def rest(to: Attackers) -> None:
    """No attack."""
    time.sleep(LEAST_SECONDS)


# ----- The attacks ---------------------------------------------------------------------------------------------------


def wrong_types(to: Attackers) -> None:
    """Each odd value in each field, by JSON, and odd names of models. One call in seven is valid, and draws."""
    calls = [SMALLEST | {field: value} for field in FIELDS for value in ODD if (field, value) != ("reason", True)]
    calls += [SMALLEST | {"model": name * n} for name in ("../", "\0", "\u202e", "%s") for n in (1, 9999)]
    to.all(*(lambda body=body, n=n: to.generate(body, n % 3) for n, body in enumerate(calls)))


def malformed(to: Attackers) -> None:
    """Bodies that are no call, and numbers and sizes that nobody has."""
    bodies = [
        *(b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"null", b"5", b'"a"', b"[]", b"\0" * 1000),
        *(
            b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}",
            b'{"n": NaN, "prompt": "a"}',
            b'{"prompt": "a", "seed": 1e400}',
        ),
        json.dumps(SMALLEST | {"n": 10**9}).encode(),
        *(
            json.dumps(SMALLEST | {"size": size}).encode()
            for size in ("999999x999999", "99999x99999", "0x0", "x", "1x1x1")
        ),
        json.dumps({f"field {number}": 1 for number in range(15_000)}).encode(),
        json.dumps(SMALLEST | {"prompt": "(" * 200_000}).encode(),
        json.dumps(SMALLEST | {"prompt": "a " * 400_000}).encode(),
        b"a" * 3_000_000,
    ]
    to.all(*(lambda body=body: to.generate(body) for body in bodies * 4))
    to.all(*(lambda path=path: to.ask("GET", path) for path in ("/v1/models/" + "a" * 1900, "/v1/x", "/v1/%00") * 8))


def forms(to: Attackers) -> None:
    """Multipart bodies: huge, many, twice, bombs in place of the image and of the mask."""
    text = b"a red house"
    small = [("size", None, b"64x64"), ("steps", None, b"1"), ("prompt", None, text)]
    bombs = [
        *(
            png(65_000, 65_000),
            png(13_300, 13_300, 1, 0, bytes(10**6)),
            png(60_000_000, 1),
            png(2, 2, data=bytes(50_000_000)),
        ),
        *(b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(100), b"II*\0\x08\0\0\0" + b"\xff" * 5000, bytes(40_000_000)),
    ]
    good = png(2, 2, data=bytes(14))
    calls = [
        *([*small, ("image", "a.png", bomb)] for bomb in bombs),
        *([*small, ("image", "a.png", good), ("mask", "a.png", bomb)] for bomb in bombs),
        [*small, *[("image[]", "a.png", good)] * 100],
        [*small, *[("a", None, b"x")] * 400],
        [*small, ("prompt", None, text), ("image", "a.png", good)],
        [("prompt", "a.png", good), ("image", "a.png", good)],
        [*small, ("image", "../../a\0.png", good), ("loras", None, b"[" * 50_000)],
        [*small, ("n", None, b"9" * 5000), ("image", "a.png", good)],
        [*small, ("user", None, b"u" * 900_000), ("image", "a.png", good)],
    ]
    to.all(*(lambda parts=parts, n=n: to.edit(*parts, address=n % 3) for n, parts in enumerate(calls * 2)))


def slow(to: Attackers) -> None:
    """A hundred calls at once that send a byte now and then, and then leave."""
    head = f"POST {{}} HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 192.0.2.{{}}\r\nAuthorization: Bearer {KEY}\r\n"
    connections = []
    for number in range(100):
        connection = connect(to.url)
        path, kind = ((GENERATIONS, "application/json"), (EDITS, "multipart/form-data; boundary=B"))[number % 2]
        length = f"Content-Type: {kind}\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall((head.format(path, number % 4) + length).encode())
        connections.append(connection)
    for _ in range(20):
        for connection in connections:
            try:
                connection.sendall(b" ")
            except OSError:
                to.answers[0] += 1  # the app has closed it
        time.sleep(0.5)
    for connection in connections:
        connection.close()


def wrong_keys(to: Attackers) -> None:
    """Guesses from one address; the owner's client at another one goes on."""
    to.all(*(lambda n=n: to.generate(SMALLEST, 9, Authorization=f"Bearer {n}") for n in range(300)))
    assert to.generate(SMALLEST, 1).status == 200


def crowd(to: Attackers) -> None:
    """More valid calls at once than the queue has room for, by one address."""
    in_parallel(lambda n: to.generate(SMALLEST | {"user": str(n), "seed": n}), range(100))


def batches(to: Attackers) -> None:
    """Files of prompts that are none, or are hostile in each row."""
    row = {"prompt": "a house", "width": 64, "height": 64, "steps": 1}
    rows = [
        row | {field: value} for field in ("prompt", "width", "steps", "seed", "count", "guidance") for value in ODD
    ]
    files = {
        "a.jsonl": "\n".join(json.dumps(each) for each in rows[:90]),
        "b.jsonl": "\n".join(['{"prompt": ' + "[" * 900 + "]" * 900 + "}"] * 90),
        "c.jsonl": "[" * 900_000,
        "d.jsonl": json.dumps(row) + "\n" + "x" * 900_000,
        "e.txt": "\n" * 900_000,
        "f.txt": "a\n" * 400_000,
        "g.txt": "\x00\u202e\u2028" * 1000,
        "h.jsonl": json.dumps({f"f{n}": 1 for n in range(60_000)}),
        "i.jsonl": "\n".join(
            json.dumps(row | {"prompt": "=HYPERLINK(1)<img src=x onerror=1>\ud800"}) for _ in range(50)
        ),
    }
    contents = {name: text.encode() for name, text in files.items()} | {
        "j.jsonl": b"PK\x03\x04" + bytes(500_000),
        "k.txt": "a house".encode("utf-16"),
        "l.txt": bytes(5_000_000),
    }
    count = len(to.functions["generate_all"]["inputs"])

    def send(number: int, name: str, content: bytes) -> None:
        file = to.upload(name, content, 10 + number)
        to.join("generate_all", ["", file, *[None] * (count - 2)], 10 + number)

    to.all(*(lambda n=n, each=each: send(n % 6, *each) for n, each in enumerate(contents.items())))


def styles(to: Attackers) -> None:
    """Files of styles: one line of 10 MB, deep, wrong types, NUL, formulas, and a style that repeats the prompt."""
    cell = "a" * 1900
    contents = {
        "a.csv": b"name,prompt,negative_prompt\n" + b"a" * 10_000_000,
        "b.csv": b"name,prompt,negative_prompt\n" + b'"' * 900_000,
        "c.csv": b"," * 900_000,
        "d.csv": b"name,prompt,negative_prompt\na\0b,\0,=cmd|'/c calc'!A0\n",
        "e.csv": b"name,prompt\n" + b"\n".join(b"%d,%s" % (n, cell.encode()) for n in range(450)),
        "f.json": b"[" * 900_000,
        "g.json": json.dumps([{"name": value, "prompt": value} for value in ODD]).encode(),
        "h.json": json.dumps([{"name": f"\ud800{n}", "prompt": "<img src=x onerror=1>"} for n in range(900)]).encode(),
        "i.json": b"[" + b"9" * 900_000 + b"]",
        "j.json": json.dumps({"a": 1}).encode(),
        "k.csv": b"\xff\xfe" + bytes(100_000),
    }
    to.all(*(lambda each=each: to.call("add_file", [to.upload(*each)]) for each in [*contents.items()] * 3))
    many = to.upload("z.json", json.dumps([{"name": "many", "prompt": "{prompt}" * 240}]).encode())
    inputs = len(to.functions["apply"]["inputs"])

    def repeat(number: int) -> None:
        session = f"styles{number}"
        to.call("add_file", [many], 20, session)
        long = "a" * 900_000
        to.call("apply", [0, "own:many", None, None, "", long, *[None] * (inputs - 6)], 20, session)

    to.all(*(lambda n=n: repeat(n) for n in range(16)))


def restores(to: Attackers) -> None:
    """Settings, kept images, kept jobs and results by forged and foreign names."""
    keys = [*ODD, "x" * 43, "../" * 14 + "a", "A" * 43, secrets.token_urlsafe(32), "off", "no"]
    calls = [
        *(
            lambda name=name, key=key: to.call(name, [key])
            for name in ("show_kept", "load_kept", "discard")
            for key in keys
        ),
        *(lambda key=key: to.call("resume", [key, key]) for key in keys),
        *(lambda key=key: to.call("delete_all", [key]) for key in keys),
        *(lambda key=key: to.call("act", [key], event_data={"index": key, "value": key}) for key in keys),
        *(lambda key=key: to.join("queue_again", [key], 30) for key in keys[-6:]),
    ]
    to.all(*calls)
    settings = [
        *("[" * 500_000, "5", '{"format": 1}', "\0", "{" * 9000, '{"format": 1, "prompt": "\\ud800"}'),
        json.dumps({"format": 1, "mask_png": "A" * 400_000}),
        *(json.dumps({"format": 1, "prompt": odd, "width": odd, "history": odd, "loras": odd}) for odd in ODD[:16]),
    ]
    count = len(to.functions["restore_file"]["inputs"])
    for text in settings:
        file = to.upload("a.png", with_settings(text))
        to.call("restore_file", [file, *[None] * (count - 1)])


def large_jobs(to: Attackers) -> None:
    """Many pages of one client whose waiting jobs have large files, which are kept on disk."""
    image = noise(2400)  # 17 MB
    files = [to.upload(f"{n}.png", image + bytes(n), 40) for n in range(4)]

    def page(number: int) -> None:
        session = f"large{number}"
        body = {"data": [[{"image": files[number % 4], "caption": None}], *SETTINGS], "session_hash": session}
        to.ask("POST", f"{CALL}/image", body, 40, Origin=f"http://{HOST}")
        to.join("watch", ["", secrets.token_urlsafe(32)], 40, session)

    in_parallel(page, range(8))


ATTACKS = (wrong_types, malformed, forms, slow, wrong_keys, crowd, batches, styles, restores, large_jobs)


# ----- What others see of it -----------------------------------------------------------------------------------------


def draw(url: str) -> float:
    """The seconds that somebody else's smallest image takes."""
    headers = {"Host": HOST, "X-Forwarded-For": CANARY, "Authorization": f"Bearer {KEY}"}
    start = time.monotonic()
    answer = ask(url, "POST", GENERATIONS, SMALLEST | {"seed": secrets.randbelow(2**31)}, headers)
    assert answer.status == 200, answer.text[:300]
    return time.monotonic() - start


def health(url: str) -> float:
    """The seconds that /health takes."""
    start = time.monotonic()
    assert ask(url, "GET", "/health").status == 200
    return time.monotonic() - start


class Watcher:
    """Somebody else, in a process of their own: the attackers' threads must not keep them waiting, only the app."""

    def __init__(self, url: str):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_watch, args=(url, theirs), daemon=True)
        self._process.start()
        assert self._pipe.recv() == "ready"

    def begin(self) -> None:
        """Begin to draw, and to ask for /health."""
        self._pipe.send("begin")

    def end(self) -> dict[str, list[float]]:
        """Stop, and tell the seconds that each "job" and each "health" took, and what was "wrong"."""
        self._pipe.send("end")
        return self._pipe.recv()

    def close(self) -> None:
        self._pipe.send("close")
        self._process.join(60)


def _watch(url: str, pipe: Any) -> None:
    pipe.send("ready")
    while pipe.recv() == "begin":
        found: dict[str, list[Any]] = {"job": [], "health": [], "wrong": []}
        is_over = threading.Event()

        def repeat(name: str, act: Callable[[str], float], found=found, is_over=is_over) -> None:
            try:
                while not is_over.is_set():
                    found[name].append(act(url))
                    is_over.wait(PAUSE)
            except (AssertionError, OSError) as error:
                found["wrong"].append(f"{name}: {error}")

        threads = [threading.Thread(target=repeat, args=each) for each in (("job", draw), ("health", health))]
        for thread in threads:
            thread.start()
        pipe.recv()  # "end"
        is_over.set()
        for thread in threads:
            thread.join()
        pipe.send(found)


def show(name: str, quiet: float, found: dict[str, list[float]], answers: Counter[int]) -> None:
    jobs, beats = found["job"], found["health"]
    said = " ".join(f"{status or 'closed'}: {count}," for status, count in sorted(answers.items())).rstrip(",")
    print(
        f"{name:12} health {max(beats):5.2f} s at most of {len(beats):4}; job {statistics.median(jobs):5.2f} s "
        f"({statistics.median(jobs) / quiet:4.1f} x), {max(jobs):5.2f} s at most of {len(jobs):3}; {said}",
        flush=True,
    )


def main() -> None:
    """Attack, and print a row for each attack; exits with 1 if something is wrong at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[attack.__name__ for attack in ATTACKS])
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        places = {"TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder / "cache"), "X2I_OPENAI_KEY": KEY}
        with run_app(folder, "--openai-api", "--hosts", HOST, **places) as app:
            problems = _attack_all(app, folder, [each for each in ATTACKS if not only or each.__name__ in only])
    print("\n".join(problems) or "nothing is wrong")
    sys.exit(bool(problems))


def _attack_all(app: App, folder: Path, attacks: list[Callable[[Attackers], None]]) -> list[str]:
    draw(app.url)
    process = psutil.Process(app.process.pid)
    watcher, problems, quiet = Watcher(app.url), [], 0.0
    for attack in (rest, *attacks):
        to = Attackers(app)
        to.answers.clear()
        watcher.begin()
        start, rounds = time.monotonic(), 0
        while rounds == 0 or (time.monotonic() - start < LEAST_SECONDS and rounds < MOST_ROUNDS):
            attack(to)
            rounds += 1
        found = watcher.end()
        quiet = quiet or statistics.median(found["job"])
        show(attack.__name__, quiet, found, to.answers)
        problems += [f"{attack.__name__}: {each}" for each in (*to.failed[:5], *found["wrong"])]
        if max(found["health"]) >= 1:
            problems.append(f"{attack.__name__}: /health took {max(found['health']):.2f} s")
        if statistics.median(found["job"]) > 3 * quiet:
            problems.append(f"{attack.__name__}: a job took more than three times as long as without an attack")
    watcher.close()
    time.sleep(35)  # jobs that nobody hears end after 30 s
    children = [" ".join(child.cmdline()[-3:]) for child in process.children(recursive=True)]
    left = [str(path.relative_to(folder)) for path in (folder / "tmp").rglob("*") if path.is_file()]
    parts = [path for path in (folder / "uploads").rglob("*") if path.is_file() and path.name in ("file", "blob")]
    stored = sum(path.stat().st_size for path in (folder / "uploads").rglob("*") if path.is_file())
    print(f"left: {len(children)} child processes {children}, temporary files {left}, {stored / 1e6:.0f} MB of uploads")
    log = app.log.read_text()
    tracebacks = log.count("Traceback")
    problems += (
        [f"{tracebacks} tracebacks in the log: {log[log.index('Traceback') - 300 :][:3000]}"] if tracebacks else []
    )
    # The process that cleans up after a crash, and decoders that wait for the next file.
    problems += [
        f"the process {each} is left" for each in children if "janitor" not in each and "isolation" not in each
    ]
    problems += [f"{len(left)} temporary files are left"] if left else []
    problems += [f"{len(parts)} unfinished uploads are left"] if parts else []
    again = statistics.median(draw(app.url) for _ in range(QUIET))
    print(f"afterwards: job {again:.2f} s, {process.memory_info().rss / 1e6:.0f} MB")
    return problems


if __name__ == "__main__":
    main()
