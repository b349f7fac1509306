"""Web addresses, taken apart and put together again; in messages without what may be secret."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

from darkroom.core.errors import BadRequest, DownloadError, shorten

PORTS = {"http": 80, "https": 443}
_KEPT = "".join(map(chr, range(33, 127)))  # of an address, as it is; the rest becomes %XX


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An http or https address, taken apart."""

    scheme: str
    host: str
    port: int
    target: str  # path and query, as they go into the request

    @classmethod
    def read(cls, url: str) -> Self:
        """BadRequest for what is no such address, or carries a name and password."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port
            target = quote(parts.path or "/", safe=_KEPT)
            target += f"?{quote(parts.query, safe=_KEPT)}" if parts.query else ""
        except ValueError:
            raise BadRequest(f"{_bare(url)!r} is not an address") from None
        if parts.scheme not in PORTS:
            raise BadRequest(
                f"{_bare(url)!r} is no http or https address",
                hint="Darkroom fetches from the web only.",
            )
        if parts.username is not None or parts.password is not None:
            raise BadRequest(
                f"the address on {shorten(parts.hostname or '', 80)!r} holds a name or password",
                hint="Leave that part away; tokens come from the environment.",
            )
        host = host_of(parts.hostname or "")
        return cls(scheme=parts.scheme, host=host, port=port or PORTS[parts.scheme], target=target)

    @property
    def server(self) -> str:
        """Host and port, as the Host header and CONNECT have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Whom a token belongs to: scheme, host and port."""
        return f"{self.scheme}://{self.server}"

    def __str__(self) -> str:
        return shorten(self.origin + self.target.partition("?")[0], 200)


def next_hop(place: Place, location: str) -> Place:
    """Where a redirect leads; DownloadError if it would leave https or the web."""
    try:
        after = Place.read(urljoin(place.origin + place.target, header_text(location)))
    except (BadRequest, ValueError) as error:
        raise DownloadError(f"{place.host} redirects to nowhere: {error}") from None
    if place.scheme == "https" and after.scheme == "http":
        raise DownloadError(
            f"{place.host} redirects from https to http, where anybody could change the file"
        )
    return after


def host_of(name: str) -> str:
    """A host name as DNS has it ("bücher.example" becomes "xn--…"); BadRequest if it is none."""
    try:
        ascii_name = name.encode("ascii" if name.isascii() else "idna").decode().lower()
    except UnicodeError:
        ascii_name = ""
    parts = [] if ":" in ascii_name else ascii_name.removesuffix(".").split(".")
    if not (0 < len(ascii_name) <= 253 and all(0 < len(part) <= 63 for part in parts)):
        ascii_name = ""
    if not ascii_name or not ascii_name.isprintable() or set(ascii_name) & set(" /\\?#@<>\"'%"):
        raise BadRequest(f"{shorten(name)!r} is not the name of a server")
    return ascii_name


def header_text(value: str) -> str:
    """A header's value as its sender meant it: http.client reads it as Latin-1."""
    with suppress(UnicodeError):
        return value.encode("latin-1").decode("utf-8")
    return value


def _bare(url: str) -> str:
    """An address that could not be taken apart, without what may be secret in it."""
    return shorten(url.partition("?")[0].rpartition("@")[2], 80)
