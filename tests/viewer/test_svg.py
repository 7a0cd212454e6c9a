from autointerp.viewer.svg import inline_svg

SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 width="10pt" viewBox="0 0 10 10" onload="alert(1)">
<metadata>secret</metadata><style>*{fill:red}</style><script>alert(2)</script>
<path d="M 0 0
L 1 1" style="fill: none; stroke: #1B1F24; stroke-width: 2; background: url(http://x)"/>
<use xlink:href="#m1" x="1" y="2"/><use xlink:href="http://evil/x" x="3"/>
<text style="font-size: 9px; font-family: 'DejaVu Sans'">a &lt; b</text>
<foreignObject><b>no</b></foreignObject>
</svg>"""


def test_styles_become_attributes_and_ink_becomes_the_text_colour() -> None:
    found = inline_svg(SVG, "#1b1f24", "label")
    assert '<path d="M 0 0 L 1 1" fill="none" stroke="currentColor" stroke-width="2">' in found
    assert "style" not in found
    assert "font-family" not in found


def test_only_elements_and_attributes_that_draw_survive() -> None:
    found = inline_svg(SVG, "#1b1f24", "label")
    for gone in ("script", "onload", "secret", "foreignObject", "http", "alert", "pt"):
        assert gone not in found
    assert '<use href="#m1" x="1" y="2">' in found


def test_text_and_label_are_escaped() -> None:
    found = inline_svg(SVG, "#1b1f24", 'a "quoted" <label>')
    assert "a &lt; b" in found
    assert 'aria-label="a &#34;quoted&#34; &lt;label&gt;"' in found
