"""Decisions on access: host names, origins, routes and logins. `middleware` applies them to requests."""

import ipaddress
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.requests import Request

from x2i_app.settings import Settings
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits

API = "/gradio_api"
FILE = f"{API}/file="
UPLOAD = f"{API}/upload"
PROGRESS = f"{API}/upload_progress"
LOGIN, LOGOUT = "/login", "/logout"
MCP = f"{API}/mcp"  # open only with --mcp
OPENAI = "/v1"  # open only with --openai-api

# Routes of Gradio that the page and the API clients need. All its other routes are closed: the proxy, monitoring, run
# history, recordings, deep links, streams and component functions.
_PAGE = re.compile(
    r"/|/login|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\w+)?"
    r"|/(assets|static|svelte)/.+"
    rf"|{API}/(login_check|startup-events|app_id|theme\.css)"
)
_READ = re.compile(
    rf"/config|{API}/(info|openapi\.json|file=.+|queue/(data|status)|heartbeat/\w+|upload_progress|call/(v2/)?\w+/\w+)"
)
_RUN = re.compile(rf"{API}/(queue/join|(call|call/v2|run|api)/\w+)")
_WRITE = re.compile(rf"{_RUN.pattern}|{API}/(upload|cancel|reset)|{LOGIN}|{LOGOUT}")


def is_open(method: str, path: str) -> bool:
    """Whether the app serves this route. `path` has no slash at its end."""
    if method in ("GET", "HEAD"):
        return bool(_PAGE.fullmatch(path) or _READ.fullmatch(path))
    return method == "POST" and bool(_WRITE.fullmatch(path))


def runs_function(path: str) -> bool:
    """Whether a POST to this route runs a function of the page."""
    return _RUN.fullmatch(path) is not None


def needs_login(method: str, path: str) -> bool:
    """Whether a route is closed to users who are not logged in, if the app has a login."""
    return not (path == LOGIN or (method in ("GET", "HEAD") and _PAGE.fullmatch(path)))


def is_logged_in(request: Request) -> bool:
    """Whether the request has a login cookie of Gradio. Gradio itself does not check it on every route."""
    return any(request.cookies.get(name) in request.scope["app"].tokens for name in login_cookies(request))


def login_cookies(request: Request) -> tuple[str, str]:
    """The names of Gradio's login cookies; the second is for connections without encryption."""
    cookie_id = request.scope["app"].cookie_id
    return f"access-token-{cookie_id}", f"access-token-unsecure-{cookie_id}"


class Hosts:
    """The host names that belong to this app.

    They are checked because of DNS rebinding: a page of another site can point its own name at this app's address, but
    it cannot change the Host header that the browser then sends. A numeric address cannot be rebound. A loopback
    address is always allowed, any other numeric address only if the app listens to other machines.
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
        """Allow the host of this URL too, for example of a share link."""
        self._names.add(urlsplit(url).hostname)

    def allows(self, host: str) -> bool:
        """Whether the value of a Host header, with or without a port, belongs to this app."""
        name = hostname(host)
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._listens_to_others


def hostname(host: str) -> str:
    """The name in a Host header in lower case, without port and brackets. Empty if the header is malformed."""
    if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", host, re.ASCII):
        return ""
    return urlsplit(f"//{host}").hostname or ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class LoginBackoff:
    """Refuses every login for a while after too many wrong ones.

    It counts over all clients: the users of a share link have the same address, and forwarding headers can be forged.
    Users who are logged in already are not affected.
    """

    def __init__(self, limits: HttpLimits = HTTP_LIMITS, clock: Callable[[], float] = time.monotonic):
        self._limits, self._clock = limits, clock
        self._times: deque[float] = deque(maxlen=limits.logins)

    def count(self) -> None:
        """Count a login before its password is checked, so that simultaneous ones cannot exceed the limit."""
        self._times.append(self._clock())

    def reset(self) -> None:
        """Forget all counted logins, because the last one was right."""
        self._times.clear()

    def wait(self) -> float:
        """Seconds until the next login is accepted; 0 if it is accepted now."""
        if len(self._times) < self._limits.logins:
            return 0.0
        return max(0.0, self._times[0] + self._limits.login_seconds - self._clock())
