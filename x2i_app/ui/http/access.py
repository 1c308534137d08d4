"""Who may ask for what: host names, origins, routes and logins. Plain decisions; `gate` asks and answers."""

import ipaddress
import re
import socket
import time
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request

from x2i_app.settings import Settings

API = "/gradio_api"
UPLOAD = f"{API}/upload"
PROGRESS = f"{API}/upload_progress"  # of an upload
LOGIN = "/login"
MCP = f"{API}/mcp"  # only where a setting opens it

# What the page and the API clients need of Gradio. Everything else that it serves is closed: its proxy, monitoring,
# run history, recordings, deep links, streams and component functions.
_PAGE = re.compile(
    r"/|/config|/login|/logout|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\w+)?"
    r"|/(assets|static|svelte)/.+"
    rf"|{API}/(login_check|startup-events|app_id|theme\.css)"
)
_READ = re.compile(
    rf"{API}/(info|openapi\.json|file=.+|queue/(data|status)|heartbeat/\w+|upload_progress|call/(v2/)?\w+/\w+)"
)
_RUN = re.compile(rf"{API}/(queue/join|(call|call/v2|run|api)/\w+)")
_WRITE = re.compile(rf"{_RUN.pattern}|{API}/(upload|cancel|reset)|{LOGIN}")


def is_open(method: str, path: str) -> bool:
    """Whether there is such a route; `path` without a slash at its end."""
    if method in ("GET", "HEAD"):
        return bool(_PAGE.fullmatch(path) or _READ.fullmatch(path))
    return method == "POST" and bool(_WRITE.fullmatch(path))


def names_function(path: str) -> bool:
    """Whether a POST to it runs one of the page's functions."""
    return _RUN.fullmatch(path) is not None


def needs_login(method: str, path: str) -> bool:
    """Whether a route is closed to those who have not logged in, where there is a login at all."""
    return not (path == LOGIN or (method in ("GET", "HEAD") and _PAGE.fullmatch(path)))


def is_logged_in(request: Request) -> bool:
    """Whether the cookie is one that Gradio gave out; /cancel, /reset and /heartbeat do not ask by themselves."""
    app = request.scope["app"]
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(name) in app.tokens for name in names)


class Hosts:
    """The names under which the app may be asked for. A page elsewhere whose name was rebound to us has another.

    A numeric address cannot be rebound: the loopback one is always ours, any other where the app listens to others.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]):
        self._names = {"localhost", settings.host.lower()}
        self._names |= {name.strip().lower() for name in (settings.hosts or "").split(",") if name.strip()}
        if environment.get("SPACE_HOST"):
            self._names.add(environment["SPACE_HOST"].lower())
        self._listens_to_others = not _is_loopback(settings.host)
        if self._listens_to_others:
            machine = socket.gethostname().lower()
            self._names |= {machine, f"{machine}.local"}

    def add(self, url: str) -> None:
        """Answer to the host of this URL too, such as a share link's."""
        self._names.add(urlsplit(url).hostname)

    def allows(self, host: str) -> bool:
        """Whether a Host header, with or without a port, is one of ours."""
        name = hostname(host)
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._listens_to_others


def hostname(host: str) -> str:
    """The name in a Host header, lower case, without port and brackets; empty if it is none."""
    if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", host, re.ASCII):
        return ""
    return urlsplit(f"//{host}").hostname or ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Backoff:
    """Refuses every login for a while after too many wrong ones.

    It counts over all visitors: behind a share link they share one address, and forwarding headers can be forged. Who
    is logged in already does not notice.
    """

    def __init__(self, allowed: int = 10, seconds: float = 60):
        self.allowed, self.seconds = allowed, seconds
        self._tried: deque[float] = deque(maxlen=allowed)

    def tried(self) -> None:
        """Count a login before it is looked at, so that many at once do not slip through."""
        self._tried.append(time.monotonic())

    def succeeded(self) -> None:
        """The last login was right: begin to count anew."""
        self._tried.clear()

    def wait(self) -> float:
        """Seconds until the next login is looked at; 0 if it may come now."""
        if len(self._tried) < self.allowed:
            return 0.0
        return max(0.0, self._tried[0] + self.seconds - time.monotonic())
