"""The check of the built site finds each kind of fault; `nox -s docs` builds the site itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from .site import faults, main, outside

PAGE = '<h1 id="top">Tea</h1><a href="#top">up</a> <a href="b/other.html#there">other</a>'
OTHER = '<h2 id="there">Other</h2><img src="../cup.png"> <a href="https://example.org/">away</a>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site without faults."""
    (tmp_path / "b").mkdir()
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b" / "other.html").write_text(OTHER)
    (tmp_path / "cup.png").write_bytes(b"")
    (tmp_path / "look.css").write_text('a { background: url("data:image/png;base64,AA") }')
    return tmp_path


def test_a_sound_site_has_no_faults(site: Path) -> None:
    """Links to pages, anchors and files within the site are no faults; those outside are listed."""
    links = site.parent / "links.txt"
    assert main(site, links) == 0
    assert links.read_text() == "https://example.org/\n"
    assert outside(site) == ["https://example.org/"]


@pytest.mark.parametrize(
    "fault",
    [
        '<a href="missing.html">',
        '<a href="#nowhere">',
        '<a href="b/other.html#nowhere">',
        '<script src="https://cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/x.css">',
        '<img src="missing.png">',
        '<p style="background: url(https://example.org/x.png)">',
    ],
)
def test_a_fault_of_a_page_is_found(site: Path, fault: str) -> None:
    """A link that leads nowhere is a fault, and so is a resource that the site does not have."""
    (site / "a.html").write_text(PAGE + fault)
    assert len(list(faults(site))) == 1
    assert main(site, site.parent / "links.txt") == 1


@pytest.mark.parametrize(
    "style", ['@import "https://example.org/x.css";', "a { src: url(https://example.org/f.woff2) }"]
)
def test_a_fault_of_a_style_sheet_is_found(site: Path, style: str) -> None:
    """A style sheet that fetches something elsewhere is a fault."""
    (site / "look.css").write_text(style)
    assert len(list(faults(site))) == 1
