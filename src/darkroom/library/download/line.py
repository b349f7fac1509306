"""The way to a server: a socket with an eye on its pace, and the proxies in between."""

import base64
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from io import BufferedReader, RawIOBase
from typing import Any, Literal, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from darkroom.core.errors import BadRequest, DownloadError, shorten
from darkroom.library.download.place import Place

LEAST_RATE = 512  # bytes per second, over the time-out of waiting: slower is as good as dead
MAX_HEAD = 1 << 20  # bytes of status and headers together


class Line:
    """The socket of one request, as http.client wants it; `left` bounds what is still read."""

    def __init__(self, line: socket.socket, timeout_s: float) -> None:
        self._line = line
        self.timeout_s = timeout_s
        self.left: int | None = MAX_HEAD
        self.sendall = line.sendall

    def makefile(self, _mode: Literal["rb"]) -> BufferedReader:
        """Its bytes, with an eye on the pace."""
        return BufferedReader(_Pace(self, self._line.makefile("rb", buffering=0)), 1 << 16)

    def close(self) -> None:
        """Whoever opened the socket closes it."""


class _Pace(RawIOBase):
    """Bytes of a socket; TimeoutError when they drip more slowly than LEAST_RATE."""

    def __init__(self, line: Line, raw: Any) -> None:
        self._line, self._raw = line, raw
        self._waited_s, self._got = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        began = time.monotonic()
        count = int(self._raw.readinto(buffer) or 0)
        self._waited_s += time.monotonic() - began
        self._got += count
        if self._waited_s > self._line.timeout_s:
            if self._got < LEAST_RATE * self._waited_s:
                raise TimeoutError
            self._waited_s, self._got = 0.0, 0
        if self._line.left is not None:
            self._line.left -= count
            if self._line.left < 0:
                raise HTTPException("headers without end")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


@dataclass(frozen=True, slots=True)
class Proxy:
    """An http proxy, and what it must be told."""

    host: str
    port: int
    login: Mapping[str, str] = field(repr=False)


def proxy_for(place: Place) -> Proxy | None:
    """The proxy that the environment or the system wants for `place`."""
    proxies = getproxies()
    named = proxies.get(place.scheme) or proxies.get("all")
    if not named or proxy_bypass(f"{place.host}:{place.port}") or proxy_bypass(place.host):
        return None
    try:
        parts = urlsplit(named if "://" in named else f"http://{named}")
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    if parts.scheme != "http" or not host:
        raise BadRequest(
            f"the proxy of kind {shorten(parts.scheme, 20)!r} in {place.scheme}_proxy or all_proxy"
            " is not one that Darkroom can use",
            hint="Name one as http://host:port, or except this server with no_proxy.",
        )
    if parts.username is None:
        return Proxy(host, port, {})
    name = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return Proxy(host, port, {"Proxy-Authorization": f"Basic {base64.b64encode(name).decode()}"})


def tunnel(line: Line, place: Place, proxy: Proxy) -> None:
    """Have the proxy connect `line` to `place` (RFC 9110, 9.3.6)."""
    server = place.server if place.server.endswith(f":{place.port}") else f"{place.server}:443"
    head = {"Host": server, **proxy.login}
    lines = [f"CONNECT {server} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    line.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    response = HTTPResponse(cast(socket.socket, line), method="CONNECT")
    response.begin()
    if response.status != 200:
        raise DownloadError(
            f"the proxy {proxy.host} does not connect to {place.host} ({response.status})",
            hint="Check https_proxy, and its name and password.",
        )
