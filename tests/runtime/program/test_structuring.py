"""Tables become keywords: types, converters, validators, and messages about misfits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from attrs.validators import gt

from trivet import ConfigurationError, Secret
from trivet._program._structuring import structure_fields
from trivet._program._values import EnvText

from ..wording import refusal_of
from .directories import Directory

if TYPE_CHECKING:
    from decimal import Decimal

# The author's validators, converters and defaults.


def below_high(author: Author, _: object, low: int) -> None:
    """Compare two settings, as a validator."""
    if not low < author.high:
        raise ValueError("low must be below high")


def next_to_low(author: Author) -> int:
    """Make a default from another setting."""
    return author.low + 1


def split(words: str | list[str]) -> list[str]:
    """Convert text in an author's own way."""
    return words.split() if isinstance(words, str) else words


@attrs.frozen
class Author:
    token: str = attrs.field(default="t-0", validator=attrs.validators.matches_re("t-[0-9]+"))
    low: int = attrs.field(default=0, validator=below_high)
    high: int = attrs.Factory(next_to_low, takes_self=True)
    words: list[str] = attrs.field(factory=list[str], converter=split)


def structure(**table: object) -> dict[str, Any]:
    """Structure an author's table."""
    return structure_fields(Author, attrs.fields(Author), table, key="plugins.author")


def test_a_validator_sees_the_other_settings() -> None:
    """A validator that compares two settings sees given values and defaults alike."""
    assert structure(low=3) == {"low": 3}
    assert structure(low=3, high=5) == {"low": 3, "high": 5}
    with pytest.raises(ConfigurationError, match=r"^plugins\.author\.low: low must be below high$"):
        structure(low=7, high=5)


def test_comparison_with_a_fault() -> None:
    """A comparison with a setting that has failed is no second fault."""
    with pytest.raises(ConfigurationError) as caught:
        structure(low=3, high="five", token="t")
    keys = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert keys == ["plugins.author.high", "plugins.author.token"]


def test_a_default_is_validated_too() -> None:
    """A default that attrs would refuse in an instance is refused before that."""
    cls = attrs.make_class(
        "Author", {"size": attrs.field(default=0, validator=attrs.validators.gt(0))}
    )
    with pytest.raises(ConfigurationError) as caught:
        structure_fields(cls, attrs.fields(cls), {})
    assert str(caught.value) == f"size: {refusal_of(gt(0), 'size', 0)}"


def test_validator_and_secret() -> None:
    """The operator's value is cut out of a validator's message."""
    with pytest.raises(ConfigurationError) as caught:
        structure(token="hunter2")
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith("plugins.author.token: ")


def test_validator_and_the_content_of_a_file(tmp_path: Path) -> None:
    """A secret that a validator repeats is masked, also if it was read from a file."""

    def refuse(_: object, __: object, value: Secret) -> None:
        raise ValueError(f"no such token: {value.reveal()}")

    (tmp_path / "token").write_text("hunter22")
    cls = attrs.make_class("Author", {"token": attrs.field(type=Secret, validator=refuse)})
    with pytest.raises(ConfigurationError) as caught:
        structure_fields(cls, attrs.fields(cls), {"token": {"file": str(tmp_path / "token")}})
    assert str(caught.value) == "token: no such token: ***"


def test_converter() -> None:
    """A converter gets the value as it was written."""
    (text,) = structure(words=EnvText("a b", "TRIVET_PLUGINS__AUTHOR__WORDS")).values()
    assert (type(text), text) == (str, "a b")


def test_error_of_a_converter() -> None:
    """An error in an author's converter is a fault of its key, told without the value."""
    cls = attrs.make_class("Author", {"size": attrs.field(type=int, converter=int)})
    with pytest.raises(ConfigurationError, match=r"^size: ") as caught:
        structure_fields(cls, attrs.fields(cls), {"size": "hunter2"})
    assert "hunter2" not in str(caught.value)


# Annotations.


def test_annotations_of_the_plugins_module(directory: Directory) -> None:
    """A setting may be of a class that only the plugin's file knows."""
    directory.write(
        "kitchen.py",
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from nowhere import Elsewhere
        @attrs.frozen
        class Leaf:
            origin: str
        class Teapot(BackgroundPlugin):
            leaves: list[Leaf] = attrs.field(factory=list)
            _state: Elsewhere
        """,
    )
    program = directory.load("kitchen", plugins={"teapot": {"leaves": [{"origin": "Assam"}]}})
    (leaf,) = program.plugins[0].values["leaves"]
    assert leaf.origin == "Assam"


def test_inherited_settings(directory: Directory) -> None:
    """The annotation of an inherited field is evaluated in the module of its base class."""
    directory.write(
        "_base.py",
        "from pathlib import Path\nclass Base(BackgroundPlugin):\n    where: Path = Path()",
    )
    directory.write("kitchen.py", "from ._base import Base\nclass Teapot(Base):\n    step: int = 1")
    program = directory.load("kitchen", plugins={"teapot": {"where": "a", "step": 2}})
    assert program.plugins[0].values == {"where": Path("a"), "step": 2}


@attrs.frozen
class Exact:
    grams: Decimal | None = None


def test_annotation_out_of_reach() -> None:
    """An annotation that the module cannot evaluate at run time is reported with its field."""
    with pytest.raises(ConfigurationError, match=r"Exact\.grams: its annotation cannot be"):
        structure_fields(Exact, attrs.fields(Exact), {"grams": 1})
    assert structure_fields(Exact, attrs.fields(Exact), {}) == {}
