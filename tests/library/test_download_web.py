"""One request: where it may go, what it carries there, and how long it waits."""

import socket
import ssl
import time
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.core.errors import BadRequest, DownloadError, StudioError
from darkroom.library.download.addresses import Guard, is_public
from darkroom.library.download.place import Place, next_hop
from darkroom.library.download.web import Drop, Web
from library.serving import File, resolve, serving


@pytest.fixture
def server(monkeypatch):
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        yield server


def get(web, url, **headers):
    with web.open(url, headers) as answer:
        return answer.status, answer.whole(1 << 20)


CERTIFICATE = Path(__file__).parent.parent / "goldens" / "hub_test.pem"
PRIVATE = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1", "172.31.9.9", "192.0.0.192", "192.168.0.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "192.0.2.1", "203.0.113.7", "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:c0a8:1::", "2001:db8::1", "2001::1", "100::1", "4000::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_of_this_machine_and_its_network_are_not_public(address):
    assert not is_public(ip_address(address))
    with pytest.raises(DownloadError, match="not of the internet"):
        Guard().addresses(address, 80)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"]
)
def test_addresses_of_the_internet_are(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "spelled", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "[::1]"]
)
def test_other_spellings_of_this_machine_are_refused_too(spelled, server):
    with pytest.raises(DownloadError, match="not of the internet"):
        get(Web(Guard()), f"http://{spelled}:{server.port}/x")
    assert server.asked == []


def test_one_private_address_of_several_is_enough():
    with pytest.raises(DownloadError, match=r"both\.test \(127\.0\.0\.9\)"):
        Guard(resolve=resolve).addresses("both.test", 80)


def test_a_name_is_resolved_once_and_the_checked_address_is_used(server):
    """DNS rebinding: public when it is checked, this machine afterwards."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    def changing(host, port, **options):
        return socket.getaddrinfo(next(answers)[0], port, **options)

    server.files["/x"] = File(b"yes")
    web = Web(Guard(allow=("127.0.0.1/32",), resolve=changing))
    assert get(web, server.url("/x", "rebind.test")) == (200, b"yes")
    assert next(answers) == ["10.0.0.1"]  # nobody asked again


@pytest.mark.parametrize(
    "where",
    [
        "http://127.0.0.2:{}/y",
        "http://router.test/",
        "http://[::1]:{}/y",
        "http://169.254.169.254/latest/meta-data/",
        "//both.test/",
        "http://2130706434:{}/",
    ],
)
def test_a_redirect_to_a_private_address_is_refused(server, where):
    server.files["/x"] = File(b"", moved=where.format(server.port))
    with pytest.raises(DownloadError, match="not of the internet"):
        get(server.web(), server.url("/x"))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "where",
    [
        "ftp://files.test/",
        "file:///etc/passwd",
        "javascript:1",
        "http://a:b@files.test/",
        "http://[/",
        "http://x:99999/",
    ],
)
def test_a_redirect_out_of_the_web_is_refused(server, where):
    server.files["/x"] = File(b"", moved=where)
    with pytest.raises(DownloadError, match="redirects to nowhere"):
        get(server.web(), server.url("/x"))


def test_redirects_are_followed_and_end(server):
    server.files["/a"] = File(b"", moved="/b?c=%20d")
    server.files["/b"] = File(b"here")
    assert get(server.web(), server.url("/a")) == (200, b"here")
    assert server.asked[-1][1] == "/b?c=%20d"
    server.files["/b"] = File(b"", moved="/a")
    with pytest.raises(DownloadError, match="without end"):
        get(server.web(), server.url("/a"))
    assert len(server.asked) == 2 + 11


def test_https_does_not_lead_to_http():
    place = Place.read("https://huggingface.co/x")
    assert next_hop(place, "https://cdn.test/y").host == "cdn.test"
    with pytest.raises(DownloadError, match="from https to http"):
        next_hop(place, "http://cdn.test/y")


def test_a_token_stays_with_its_server(server):
    origin = f"http://hub.test:{server.port}"
    web = server.web(tokens={origin: "hf_secret"})
    server.files["/a"] = File(b"", moved="/b")
    server.files["/b"] = File(b"", moved=server.url("/c", "cdn.test"))
    server.files["/c"] = File(b"", moved=server.url("/d", "hub.test"))
    server.files["/d"] = File(b"!")
    get(web, server.url("/a", "hub.test"))
    told = [(path, headers.get("Authorization")) for _, path, headers in server.asked]
    assert told == [
        ("/a", "Bearer hf_secret"),
        ("/b", "Bearer hf_secret"),
        ("/c", None),
        ("/d", None),
    ]
    assert "secret" not in repr(web)


def test_a_link_elsewhere_that_leads_to_the_site_does_not_carry_the_token(server):
    web = server.web(tokens={f"http://hub.test:{server.port}": "hf_secret"})
    server.files["/a"] = File(b"", moved=server.url("/b", "hub.test"))
    server.files["/b"] = File(b"!")
    get(web, server.url("/a", "files.test"))
    assert all("Authorization" not in headers for _, _, headers in server.asked)


def endless(handler):
    handler.send_response(200)
    while True:
        handler.wfile.write(b"X-More: " + b"y" * 60_000 + b"\r\n")


def ever_so_slow(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X")
        handler.wfile.flush()
        time.sleep(0.02)


def continues(handler):
    while True:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def gibberish(handler):
    handler.wfile.write(b"\0\xff nonsense\r\n\r\n")


def bad_chunk(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc")


@pytest.mark.parametrize("act", [endless, ever_so_slow, continues, gibberish, bad_chunk])
def test_what_is_no_proper_answer_is_a_drop(server, act):
    server.files["/x"] = act
    with pytest.raises(Drop, match=r"proper HTTP|silent"):
        get(server.web(timeout_s=0.3), server.url("/x"))


def test_a_server_that_drips_is_left(server):
    server.files["/x"] = File(b"x" * 10_000, drip_s=0.01)
    began = time.monotonic()
    with pytest.raises(Drop, match="silent for too long"):
        get(server.web(timeout_s=0.3), server.url("/x"))
    assert time.monotonic() - began < 3


def test_a_server_that_says_nothing_is_left(server):
    server.files["/x"] = lambda _: time.sleep(1)
    with pytest.raises(Drop, match="silent"):
        get(server.web(timeout_s=0.2), server.url("/x"))


def test_json_is_bounded_and_tried_again(server):
    server.json("/x", {"a": 1})
    server.files["/x"].statuses = [(503, {}), (200, {})]
    with pytest.raises(DownloadError, match="sends no JSON"):
        server.web().json(server.url("/x"), {})
    server.files["/x"] = File(b"[" * 100_000)
    with pytest.raises(DownloadError, match="sends no JSON"):
        server.web().json(server.url("/x"), {})
    with (
        pytest.raises(DownloadError, match="more than"),
        server.web().open(server.url("/x")) as answer,
    ):
        answer.whole(1000)
    server.files["/x"] = File(b"{}", drops=[1])
    assert server.web().json(server.url("/x"), {}) == {}


def test_a_proxy_of_the_environment_is_used_and_told_its_password(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{server.port}")
    seen = []

    def through(handler):
        seen.append((handler.path, handler.headers["Proxy-Authorization"]))
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server.files["http://somewhere.test/x"] = through
    web = Web(Guard(resolve=resolve))  # the proxy is named by the user: it may be anywhere
    assert get(web, "http://somewhere.test/x") == (200, b"ok")
    assert seen == [("http://somewhere.test/x", "Basic bWU6cEBzcw==")]
    for private in ("127.0.0.1", "router.test"):
        with pytest.raises(DownloadError, match="not of the internet"):
            get(web, f"http://{private}/x")
    monkeypatch.setenv("no_proxy", "files.test")
    server.files["/y"] = File(b"direct")
    assert get(server.web(), server.url("/y")) == (200, b"direct")


def test_https_goes_through_a_tunnel_which_the_proxy_may_refuse(monkeypatch):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            line, _ = listener.accept()
            with line:
                asked.append(line.recv(4096))
                line.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")

        Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(DownloadError, match=r"does not connect to somewhere\.test \(407\)"):
            get(Web(Guard(resolve=resolve)), "https://somewhere.test/x")
    assert asked[0].startswith(
        b"CONNECT somewhere.test:443 HTTP/1.1\r\nHost: somewhere.test:443\r\n"
    )


def test_a_proxy_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    with pytest.raises(BadRequest, match="socks5"):
        get(Web(Guard()), "http://files.test/x")


@pytest.fixture
def secure(server):
    """The server over TLS, with a certificate that only a context made for it trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server.wrap(context)
    return server


def test_tls_is_verified_and_cannot_be_turned_off(secure):
    secure.files["/x"] = File(b"yes")
    address = secure.url("/x", "hub.test").replace("http:", "https:")
    trusting = secure.web(context=ssl.create_default_context(cafile=str(CERTIFICATE)))
    assert get(trusting, address) == (200, b"yes")
    assert secure.asked[-1][0] == f"hub.test:{secure.port}"
    with pytest.raises(DownloadError, match=r"certificate of hub\.test is not valid"):
        get(secure.web(), address)
    with pytest.raises(DownloadError, match=r"certificate of files\.test is not valid"):
        get(trusting, address.replace("hub.test", "files.test"))
    assert len(secure.asked) == 1


def test_a_redirect_from_https_to_http_is_refused(secure):
    secure.files["/x"] = File(b"", moved=secure.url("/y", "hub.test"))
    address = secure.url("/x", "hub.test").replace("http:", "https:")
    trusting = secure.web(context=ssl.create_default_context(cafile=str(CERTIFICATE)))
    with pytest.raises(DownloadError, match="from https to http"):
        get(trusting, address)


@given(st.text(max_size=60) | st.from_regex(r"https?://[^ ]{0,40}", fullmatch=True))
def test_every_address_is_read_or_refused(url):
    try:
        place = Place.read(url)
    except StudioError:
        return
    assert place.scheme in ("http", "https") and place.host and 0 <= place.port < 65536
    assert place.target.startswith("/") and place.target.isascii() and " " not in place.target
    assert not set(place.host + place.target) & set("\r\n\t\0")
    assert Place.read(place.origin + place.target) == place
