"""The mark of a synthetic image: IPTC's digital source type, in the image's XMP packet.

``trainedAlgorithmicMedia`` is an image that a model drew, ``compositeWithTrainedAlgorithmicMedia`` one that a model painted into.
A mark that an image came with is never taken away.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DRAWN, PAINTED_INTO = f"{TERMS}trainedAlgorithmicMedia", f"{TERMS}compositeWithTrainedAlgorithmicMedia"

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
XMP = "http://ns.adobe.com/xap/1.0/"
META = "adobe:ns:meta/"
NAME, TOOL = f"{{{IPTC}}}DigitalSourceType", f"{{{XMP}}}CreatorTool"
EMPTY = f'<x:xmpmeta xmlns:x="{META}"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta>'


def source_type(packet: str | None) -> str | None:
    """The digital source type that an XMP packet names, written as attribute or as element; None where there is none."""
    tree = _tree(packet)
    if tree is None:
        return None
    for node in tree.iter():
        if NAME in node.attrib:
            return node.attrib[NAME]
        if node.tag == NAME:
            return node.attrib.get(f"{{{RDF}}}resource") or (node.text or "").strip() or None
    return None


def marked(packet: str | None, kind: str) -> str:
    """The packet with the mark, everything else in it kept. A packet that is marked as model-made already stays as it is."""
    if packet and source_type(packet) in (DRAWN, PAINTED_INTO):
        return packet
    tree = _tree(packet)
    tree = ET.fromstring(EMPTY) if tree is None else tree
    for prefix, space in (("x", META), ("rdf", RDF), ("Iptc4xmpExt", IPTC), ("xmp", XMP)):
        ET.register_namespace(prefix, space)
    for node in tree.iter():  # another source type gives way: the image is no longer what it says
        node.attrib.pop(NAME, None)
        for child in node.findall(NAME):
            node.remove(child)
    described = tree.find(f".//{{{RDF}}}Description")
    if described is None:
        return marked(None, kind)
    described.set(NAME, kind)
    described.set(TOOL, described.get(TOOL, "refine"))
    body = ET.tostring(tree, encoding="unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end="w"?>'


def _tree(packet: str | None) -> ET.Element | None:
    try:
        return ET.fromstring(packet.strip("\x00 \n\r\t\ufeff")) if packet else None
    except (ET.ParseError, ValueError):
        return None
