"""One careful GET over HTTP: the only place of Darkroom that opens a connection to the internet.

    web = Web(Guard(), tokens)
    with web.open(url) as answer:      # redirects followed; whatever the status is
        answer.read(size)              # b"" at the end

What it holds to: http and https only; every hop goes to a checked address (`addresses.py`); TLS is
always verified; at most MAX_HOPS redirects and none from https back to http; a token goes only to
the server it belongs to, over https, and never again once a redirect has left that server; a
server may be silent for TIMEOUT_S and may not drip (`line.py`). An address is shown in messages
without its query, which may hold secrets.

Proxies are those of the environment (http_proxy, https_proxy, all_proxy, no_proxy) or, where the
system keeps its own, of the system. Through a proxy it is the proxy that makes the connection:
addresses written as numbers are checked, and names as far as this machine can resolve them.

A failure that may pass is a `Drop`; all others are DownloadError or BadRequest.
"""

import json
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, cast

from darkroom import __version__
from darkroom.core.errors import DownloadError
from darkroom.library.download.addresses import Address, Guard
from darkroom.library.download.line import Line, Proxy, proxy_for, tunnel
from darkroom.library.download.place import Place, next_hop

MAX_HOPS = 10
TIMEOUT_S = 30.0
MAX_JSON = 32 << 20  # bytes
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses worth another try
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # between one try and the next, unless the server says
LONGEST_WAIT_S = 120.0  # that a server may ask for


TRY_AGAIN = "Check the connection and run the same command again."


class Drop(Exception):
    """What went wrong may be right the next time, `after` so many seconds if the server says so."""

    def __init__(self, text: str, *, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


class Unreachable(Drop):
    """There was no connection at all."""


@dataclass(slots=True)
class Patience:
    """How often and how long to wait: five times in a row; not at all if it never worked."""

    failures: int = 0
    worked: bool = False

    def progressed(self) -> None:
        """Something came: start counting anew."""
        self.failures = 0

    def wait_s(self, drop: Drop) -> float:
        """Seconds to wait after `drop`; DownloadError when that makes no sense any more."""
        hopeless = isinstance(drop, Unreachable) and not self.worked
        if hopeless or self.failures == len(_WAITS_S):
            tries = "" if hopeless else f" ({self.failures + 1} tries)"
            raise DownloadError(f"{drop}{tries}", hint=TRY_AGAIN) from None
        wait = max(_WAITS_S[self.failures], drop.after or 0)
        if wait > LONGEST_WAIT_S:
            minutes = math.ceil(wait / 60)
            raise DownloadError(
                f"{drop} and asks to wait {minutes} minutes", hint="Try again then."
            ) from None
        self.failures += 1
        return wait


@dataclass(slots=True)
class Answer:
    """What a server said, after its redirects; the body is read with `read`."""

    place: Place
    headers: Message
    status: int
    hops: list[Message]  # headers of the redirects that led here
    _response: HTTPResponse
    _socket: socket.socket

    def read(self, size: int) -> bytes:
        """Some bytes, up to `size`; none at the end. Drop when the connection fails."""
        with _drops(self.place):
            return self._response.read1(size)

    def whole(self, limit: int) -> bytes:
        """The whole body; DownloadError if it is larger than `limit` bytes."""
        found = bytearray()
        while piece := self.read(1 << 16):
            found += piece
            if len(found) > limit:
                raise DownloadError(f"{self.place} sends more than {limit:,} bytes")
        said = self.headers.get("Content-Length", "")
        if said.isdecimal() and int(said) > len(found):
            raise Drop(f"{self.place.host} closed the connection too early")
        return bytes(found)

    def refusal(self, hints: Mapping[int, str]) -> Exception:
        """The error that the status stands for, with the hint for it; a Drop where it may pass."""
        host = self.place.host
        if self.status in _PASSING:
            return Drop(f"{host} answers {self.status}", after=retry_after(self.headers))
        what = _STATUSES.get(self.status, f"answers {self.status}")
        return DownloadError(f"{host} {what}: {self.place}", hint=hints.get(self.status, ""))

    def close(self) -> None:
        """Let go of the connection."""
        self._response.close()
        self._socket.close()


_STATUSES = {
    401: "asks for a login (401)",
    403: "does not give this file to you (403)",
    404: "has no such file (404)",
    410: "has no such file any more (410)",
    416: "does not have the rest of this file (416)",
    451: "may not give this file out, for legal reasons (451)",
}


def retry_after(headers: Message) -> float | None:
    """Seconds that the server asks to wait, if it says so."""
    said = headers.get("Retry-After", "").strip()
    if said.isdecimal():
        return float(said[:9])
    with suppress(ValueError, OverflowError):
        return parsedate_to_datetime(said).timestamp() - time.time()
    return None


@dataclass(frozen=True, slots=True)
class Web:
    """Sends requests; `tokens` is {origin: token}, as in {"https://huggingface.co": "hf_…"}."""

    guard: Guard
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = TIMEOUT_S
    sleep: Callable[[float], None] = time.sleep
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context, repr=False)

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """The answer to GET `url`, whatever its status but a redirect; closed after the block."""
        place, hops = Place.read(url), list[Message]()
        token = self.tokens.get(place.origin, "")
        sent = {
            "User-Agent": f"darkroom/{__version__}",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **(headers or {}),
        }
        while True:
            login = {"Authorization": f"Bearer {token}"} if token else {}
            answer = self._ask(place, sent | login, hops)
            where = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not where:
                break
            answer.close()
            hops.append(answer.headers)
            if len(hops) > MAX_HOPS:
                raise DownloadError(f"{place.host} sends from address to address without end")
            after = next_hop(place, where)
            token = token if after.origin == place.origin else ""
            place = after
        with closing(answer):
            yield answer

    def json(self, url: str, hints: Mapping[int, str]) -> Any:
        """The JSON value at `url`, tried for as long as it makes sense.

        DownloadError if the server does not give it, with the one of `hints` for its status.
        """
        patience = Patience()
        while True:
            try:
                return self._json(url, hints)
            except Drop as drop:
                self.sleep(patience.wait_s(drop))

    def _json(self, url: str, hints: Mapping[int, str]) -> Any:
        with self.open(url, {"Accept": "application/json"}) as answer:
            if answer.status != 200:
                raise answer.refusal(hints)
            raw = answer.whole(MAX_JSON)
            try:
                return json.loads(raw)
            except (ValueError, RecursionError):
                raise DownloadError(f"{answer.place} sends no JSON", hint=TRY_AGAIN) from None

    def _ask(self, place: Place, headers: Mapping[str, str], hops: list[Message]) -> Answer:
        with _drops(place):
            proxy = proxy_for(place)
            with ExitStack() as stack:
                line = self._dial(place, proxy)
                stack.callback(line.close)
                pace = Line(line, self.timeout_s)
                connection = HTTPConnection(place.host, place.port)
                connection.sock = cast(socket.socket, pace)
                target, head = place.target, {"Host": place.server, **headers}
                if proxy is not None and place.scheme == "http":
                    target, head = place.origin + target, head | dict(proxy.login)
                connection.request("GET", target, headers=head)
                response = connection.getresponse()
                pace.left = None  # the head is over; a body may be of any size
                stack.pop_all()
        return Answer(place, response.headers, response.status, hops, response, line)

    def _dial(self, place: Place, proxy: "Proxy | None") -> socket.socket:
        if proxy is None:
            line = self._connect(self.guard.addresses(place.host, place.port))
        else:
            if not self.guard.check_literal(place.host):
                with suppress(OSError):  # only the proxy knows names here
                    self.guard.addresses(place.host, place.port)
            found = socket.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
            line = self._connect([(row[0], row[4]) for row in found])
        if place.scheme == "http":
            return line
        with ExitStack() as stack:
            stack.callback(line.close)
            if proxy is not None:
                tunnel(Line(line, self.timeout_s), place, proxy)
            secure = self.context.wrap_socket(line, server_hostname=place.host)
            stack.pop_all()
        return secure

    def _connect(self, addresses: list[Address]) -> socket.socket:
        """A connection to the first of the addresses that takes one."""
        failure: OSError = OSError("no address")
        for family, where in addresses:
            line = socket.socket(family, socket.SOCK_STREAM)
            line.settimeout(self.timeout_s)
            try:
                line.connect(where)
            except OSError as error:
                line.close()
                failure = error
            else:
                return line
        raise failure


@contextmanager
def _drops(place: Place) -> Iterator[None]:
    """What the system and http.client raise, as errors of ours."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise DownloadError(
            f"the certificate of {place.host} is not valid: {error.verify_message}",
            hint="Check this machine's date and certificates; SSL_CERT_FILE can name those.",
        ) from None
    except TimeoutError:
        raise Drop(f"{place.host} was silent for too long") from None
    except socket.gaierror:
        raise Unreachable(
            f"no connection to {place.host}: its name is not known, or this machine is offline"
        ) from None
    except OSError as error:
        kind = Drop if isinstance(error, ConnectionResetError | BrokenPipeError) else Unreachable
        raise kind(f"no connection to {place.host}: {error.strerror or error}") from None
    except HTTPException as error:
        raise Drop(f"{place.host} does not speak proper HTTP ({type(error).__name__})") from None
    except ValueError:  # of a chunk's length, or a status line
        raise Drop(f"{place.host} does not speak proper HTTP") from None
