"""Words that say how a picture is made instead of what it shows, in English and German."""

import re
from functools import cache

__all__ = ["style_words"]

_ENGLISH = """
    watercolor, watercolour, watercolor painting, watercolour painting, oil painting, acrylic painting, gouache, tempera
    digital painting, matte painting, finger painting, spray paint, ink drawing, ink wash, pen and ink, pencil drawing
    pencil sketch, colored pencil, coloured pencil, charcoal drawing, chalk drawing, pastel drawing, crayon drawing
    line art, lineart, line drawing, sketch, sketched, hand drawn, doodle, scribble, woodcut, linocut, etching
    engraving, lithograph, screen print, risograph, halftone, stencil art, paper cut, papercut, collage, mosaic
    stained glass, fresco, graffiti, digital art, concept art, fan art, clip art, clipart, vector art, vector graphic
    vector illustration, flat illustration, flat vector illustration, flat design, flat icon, flat style, isometric
    low poly, voxel art, pixel art, 8 bit, ascii art, 3d render, 3d rendering, 3d model, cgi, octane render
    unreal engine, ray tracing, clay render, claymation, stop motion, cel shading, cel shaded, anime, anime style, manga
    cartoon, cartoon style, comic book, comic style, graphic novel, chibi, kawaii, disney style, pixar style, ghibli
    impressionist, impressionism, expressionist, expressionism, surrealist, surrealism, surreal, cubist, cubism
    pop art, op art, art deco, art nouveau, baroque, rococo, renaissance painting, bauhaus, ukiyo e, minimalist
    minimalism, abstract art, steampunk, cyberpunk, synthwave, vaporwave, retro style, vintage style, photorealistic
    photorealism, hyperrealistic, hyperrealism, cinematic, film grain, bokeh, monochrome, sepia, polaroid, hdr
    long exposure, double exposure, tilt shift, masterpiece, best quality, high quality, highly detailed, 4k, 8k
    trending on artstation, artstation
"""
_GERMAN = """
    aquarell, aquarellmalerei, wasserfarben, ölgemälde, ölmalerei, acrylbild, acrylmalerei, gouachemalerei, gemälde
    digitale malerei, digitale kunst, bleistiftzeichnung, buntstiftzeichnung, kohlezeichnung, kreidezeichnung
    tuschezeichnung, federzeichnung, strichzeichnung, handgezeichnet, skizze, skizzenhaft, kritzelei, holzschnitt
    linolschnitt, radierung, kupferstich, siebdruck, scherenschnitt, mosaik, glasmalerei, fresko, vektorgrafik
    vektorillustration, flache illustration, flaches design, isometrisch, pixelkunst, 3d-grafik, zeichentrick
    zeichentrickstil, trickfilm, comicstil, mangastil, animestil, karikatur, impressionistisch, impressionismus
    expressionistisch, expressionismus, surrealistisch, surrealismus, kubistisch, kubismus, jugendstil, barock
    minimalistisch, abstrakte kunst, fotorealistisch, hyperrealistisch, filmisch, filmkorn, schwarzweißfoto
    monochrom, sepiafarben, langzeitbelichtung, doppelbelichtung, meisterwerk, hohe qualität, detailreich
"""
_ENDINGS = {_ENGLISH: "(?:s|es)?", _GERMAN: "(?:e[nmrs]?|n|s)?"}
# An artist or another style follows; up to the next sign that ends a phrase.
_PHRASES = (
    r"in (?:the |a |an )?styles? of [^,.;]+",
    r"in (?:a|an|the) [\w -]{1,30} style",
    r"\w+[ -]style",
    r"(?:art|artwork|painting|painted|drawing|drawn|illustration|illustrated|photographed|rendered) by [^,.;]+",
    r"inspired by [^,.;]+",
    r"im stile? (?:von|des|der|eines|einer) [^,.;]+",
    r"im (?:[\w-]{2,30} )?[\w-]{2,30}[ -]?stil",
    r"(?:gemalt|gezeichnet|illustriert|fotografiert|inspiriert) von [^,.;]+",
)


def style_words(text: str) -> tuple[str, ...]:
    """Return the words of a caption that describe its style, as they are written, each once and in their order."""
    found = (match.group().strip() for match in _pattern().finditer(text))
    return tuple({word.casefold(): word for word in found}.values())


def _alternatives(listed: str) -> list[str]:
    terms = [term.strip() for line in listed.strip().splitlines() for term in line.split(",")]
    spaced = [re.escape(term).replace(r"\ ", "[ _-]?").replace(r"\-", "[ _-]?") for term in terms]
    return [term + _ENDINGS[listed] for term in spaced]


@cache  # compiling takes 20 ms, which importing should not
def _pattern() -> re.Pattern[str]:
    terms = sorted((*_alternatives(_ENGLISH), *_alternatives(_GERMAN)), key=len, reverse=True)  # the longest match
    return re.compile(rf"(?<!\w)(?:{'|'.join((*_PHRASES, *terms))})(?!\w)", re.IGNORECASE)
