"""Which client a request comes from: limits are for each client, and a client is an address.

A proxy in front of the app passes the address on in X-Forwarded-For. A client can write that header too, so only its
last entries are believed, which the proxies added, and only if there is a proxy: with a share link, with --hosts or
--root-path, and on a Space.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.types import Scope

from x2i_app.settings import Settings

_HOPS = 8  # proxies one behind the other


class Client(NamedTuple):
    """A client's address, empty for the owner of this machine; and the name under which its work is counted.

    Everybody on this machine has the same address, so there each session counts.
    """

    address: str
    owner: str


def client_of(request: Any) -> Client:
    """Whose gr.Request this is. RequestGuard has found the address."""
    inner = getattr(request, "request", None)
    address = ((inner.scope.get("client") if inner else None) or ("",))[0]
    parsed, session = _parse(address), getattr(request, "session_hash", None) or ""
    if parsed is None or parsed.is_loopback:
        return Client("", f"session {session}")
    return Client(address, address)


class Clients:
    """Finds the address of a request's client."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]):
        on_space = bool(environment.get("SPACE_ID"))
        self._has_proxy = on_space or bool(settings.share or settings.hosts or settings.root_path)
        self._private_proxies = on_space  # a Space's proxy has an address of its own network
        self.is_private = settings.is_private and not on_space

    def address(self, scope: Scope) -> str:
        """The address of the client; of IPv6 only the network, which belongs to one customer. Empty if unknown."""
        address = (scope.get("client") or ("",))[0]
        if self._has_proxy and self._is_proxy(address):
            passed_on = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
            for entry in reversed(passed_on.decode("latin-1").split(",")[-_HOPS:]):
                entry = entry.strip()
                if not _parse(entry):
                    break
                address = entry
                if not self._is_proxy(entry):
                    break
        return _network(address)

    def is_owner(self, address: str) -> bool:
        """Whether limits for strangers do not apply: the page can only be opened on this machine."""
        parsed = _parse(address)
        return self.is_private and parsed is not None and parsed.is_loopback

    def is_shared(self, address: str) -> bool:
        """Whether connections from this address have no limit of their own: it is the owner, or a proxy for others."""
        return self.is_owner(address) or (self._has_proxy and self._is_proxy(address))

    def scheme(self, scope: Scope) -> str:
        """http or https, as the client sees it."""
        if self._has_proxy and self._is_proxy((scope.get("client") or ("",))[0]):
            for name, value in scope["headers"]:
                if name == b"x-forwarded-proto" and value in (b"http", b"https"):
                    return value.decode()
        return scope["scheme"]

    def _is_proxy(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and (parsed.is_loopback or (self._private_proxies and parsed.is_private))


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address[:64])
    except ValueError:
        return None


def _network(address: str) -> str:
    parsed = _parse(address)
    if parsed is None:
        return ""
    if parsed.version == 6 and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    if parsed.version == 4 or parsed.is_loopback:
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False).network_address)
