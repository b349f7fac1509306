"""A server on this machine that does what servers do to downloads, and models to serve.

server.files["/a.safetensors"] = File(data, drops=[1000])
server.asked      the requests so far, as (host, path, headers)
"""

import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from darkroom.library.download import Guard, Web

NAMES = ("hub.test", "cdn.test", "civitai.test", "files.test")  # that lead to the server


def model(marks: str = "lora", size: int = 300_000) -> bytes:
    """A safetensors file with the names of a LoRA, of a Flux transformer, or of nothing."""
    name = {
        "lora": "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "flux": "double_blocks.0.img_attn.norm.key_norm.scale",
        "odd": "something.nobody.knows",
    }[marks]
    table = {name: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    head = json.dumps(table).encode()
    body = bytes(i * 7919 >> 3 & 255 for i in range(1024)) * (size // 1024 + 1)
    return struct.pack("<Q", len(head)) + head + body[:size]


@dataclass
class File:
    """One file, and how it misbehaves."""

    data: bytes
    etag: str = '"one"'
    ranges: bool = True  # False: Range is ignored
    drops: list[int] = field(default_factory=list)  # bytes after which each next answer ends
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answered first
    said: int | None = None  # what Content-Length claims of the whole
    headers: dict[str, str] = field(default_factory=dict)
    moved: str = ""  # where to, if it is elsewhere
    drip_s: float = 0.0  # between one byte and the next
    chunked: bool = False


class Quiet(ThreadingHTTPServer):
    """Clients that hang up are what these tests are about."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Server:
    """Serves `files`; every path may also be a function from handler to nothing."""

    def __init__(self) -> None:
        self.files: dict[str, File | Callable[[Any], None]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self._server = Quiet(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def url(self, path: str, host: str = "files.test") -> str:
        return f"http://{host}:{self.port}{path}"

    def web(self, **more: Any) -> Web:
        """A Web that reaches this server only, and does not wait."""
        guard = Guard(allow=("127.0.0.1/32",), resolve=resolve)
        return Web(guard, **({"sleep": self.slept.append, "timeout_s": 5.0} | more))

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    slept: list[float]

    def json(self, path: str, value: object) -> None:
        self.files[path] = File(json.dumps(value).encode())

    @property
    def ranges(self) -> list[str]:
        return [headers.get("Range", "") for _, _, headers in self.asked]


def resolve(host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
    """As the tests have it: the names of the server, a private name, and numbers."""
    addresses = {
        **{name: ["127.0.0.1"] for name in NAMES},
        "router.test": ["192.168.1.1"],
        "both.test": ["93.184.215.14", "127.0.0.9"],
    }
    if host not in addresses and not host[0].isdecimal() and ":" not in host:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")
    found = []
    for address in addresses.get(host, [host]):
        found += socket.getaddrinfo(address, port, **options)
    return found


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    server.slept = []
    thread = Thread(
        target=server._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server._server.shutdown()
        server._server.server_close()
        thread.join()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.close_connection = True
            path = self.path.partition("?")[0]
            server.asked.append((self.headers["Host"], self.path, dict(self.headers)))
            with suppress(ConnectionError, ssl.SSLError):
                match server.files.get(path):
                    case None:
                        self.send_response(404)
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                    case File() as file:
                        self._file(file)
                    case act:
                        act(self)

        def _file(self, file: File) -> None:
            if file.statuses:
                self._head(*file.statuses.pop(0))
            elif file.moved:
                self._head(302, {"Location": file.moved, **file.headers})
            else:
                self._data(file)

        def _data(self, file: File) -> None:
            start, status = 0, 200
            wish, condition = self.headers.get("Range"), self.headers.get("If-Range", file.etag)
            if wish and file.ranges and condition == file.etag:
                start, status = int(wish.removeprefix("bytes=").removesuffix("-")), 206
                if start >= len(file.data):
                    self._head(416, {})
                    return
            said = (len(file.data) if file.said is None else file.said) - start
            headers = {"Content-Length": str(said), "ETag": file.etag, **file.headers}
            if file.chunked:
                headers |= {"Content-Length": "", "Transfer-Encoding": "chunked"}
            if status == 206:
                whole = said + start
                headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
            self._head(status, headers)
            end = start + file.drops.pop(0) if file.drops else len(file.data)
            self._body(file, file.data[start:end])

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": "0"} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()

        def _body(self, file: File, data: bytes) -> None:
            if file.chunked:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                if len(data) == len(file.data):
                    self.wfile.write(b"0\r\n\r\n")
            elif file.drip_s:
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    time.sleep(file.drip_s)
            else:
                self.wfile.write(data)

    return Handler
