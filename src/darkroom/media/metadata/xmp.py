"""A few properties of an XMP packet, read and written.

XMP is RDF in XML. A stranger's XML is not given to an XML parser, whose entities can be bombs: the
properties wanted are found by their names and cleaned of markup.
"""

import html
import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

RECIPE = "darkroom:recipe"
PROPERTIES = (RECIPE, "exif:UserComment", "xmp:CreatorTool", "dc:description")
_NAMESPACE = "urn:darkroom:recipe:1"
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:darkroom="{namespace}">'
    "<{name}>{text}</{name}>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


def packet(recipe: str) -> bytes:
    """A packet that holds `recipe`, JSON, as one property."""
    text = escape(recipe, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})
    return _PACKET.format(namespace=_NAMESPACE, name=RECIPE, text=text).encode()


def texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Name and text of those of PROPERTIES that the packet `data` holds; of each the first."""
    packed = data.decode("utf-8", errors="replace")
    for name in PROPERTIES:
        if (text := _element(packed, name) or _attribute(packed, name)) is not None:
            yield name, html.unescape(text)


def _element(packed: str, name: str) -> str | None:
    start = packed.find(f"<{name}")
    inside = packed.find(">", start) + 1
    end = packed.find(f"</{name}>", inside)
    if start < 0 or not inside or end < 0:
        return None
    return re.sub(r"<[^<>]*>", "", packed[inside:end]).strip()


def _attribute(packed: str, name: str) -> str | None:
    found = re.search(rf"\b{name}\s?=\s?([\"'])", packed)
    if found is None:
        return None
    end = packed.find(found[1], found.end())
    return packed[found.end() : end] if end >= 0 else None
