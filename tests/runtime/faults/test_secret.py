"""A secret shows three asterisks wherever it is shown, and wherever its text would be."""

from __future__ import annotations

import copy
import gc
import json
import pickle
from pathlib import Path

import attrs
import msgspec
import pytest

from trivet import (
    ConfigurationError,
    EventEncodeError,
    Secret,
    Settings,
    TokenSettings,
    encode_event,
    load_settings,
)
from trivet._events._event import Event
from trivet._faults._masking import mask

TOKEN = "hunter22-t0ken-0123"


def test_a_secret_is_shown_masked() -> None:
    """A secret as text, in an f-string, a container or an instance of attrs is `***`."""

    @attrs.frozen
    class Holder:
        token: Secret

    secret = Secret(TOKEN)
    shown = (str(secret), f"{secret}", f"{secret!r}", repr([secret]), repr(Holder(secret)))
    assert all("***" in text and TOKEN not in text for text in shown)
    assert secret.reveal() == TOKEN


def test_a_secret_has_no_json() -> None:
    """Encoders refuse a secret instead of writing it."""
    with pytest.raises(TypeError):
        json.dumps({"token": Secret(TOKEN)})
    with pytest.raises(TypeError):
        msgspec.json.encode({"token": Secret(TOKEN)})


def test_an_event_cannot_carry_a_secret() -> None:
    """An event with a secret in a field cannot be stored or sent."""

    class Leak(Event):
        token: object = None

    with pytest.raises(EventEncodeError) as caught:
        encode_event(Leak(token=Secret(TOKEN)))
    assert TOKEN not in str(caught.value)


def test_a_text_is_masked_while_the_secret_exists() -> None:
    """The text is masked from the making of the secret on, until nobody has the secret."""
    secret = Secret("a-l0nely-t0ken")
    assert mask("it is a-l0nely-t0ken") == "it is ***"
    del secret
    gc.collect()
    assert mask("it is a-l0nely-t0ken") == "it is a-l0nely-t0ken"


def test_the_parts_of_a_url_are_masked() -> None:
    """The password and the path of a secret URL are masked by themselves."""
    secret = Secret("https://ann:hunter22@hooks.example/T00/B00/xyz")
    assert mask("no hunter22, 404 at /T00/B00/xyz") == "no ***, 404 at ***"
    del secret


def test_a_copy_masks_too() -> None:
    """A copy, and a secret out of a pickle, are secrets of their own."""
    secret = Secret(TOKEN, file=Path("a"))
    for again in (copy.copy(secret), copy.deepcopy(secret), pickle.loads(pickle.dumps(secret))):
        assert (again, again.file) == (secret, Path("a"))
    other = copy.deepcopy(secret)
    del secret, again
    gc.collect()
    assert mask(TOKEN) == "***"
    del other


def test_secrets_are_compared_by_their_texts() -> None:
    """Secrets of the same text are equal; a secret equals no string."""
    assert Secret("pass\udcffword") == Secret("pass\udcffword")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_settings_show_no_secret() -> None:
    """The settings as text show neither the program's secrets nor the plugins' tables."""
    operator = TokenSettings(name="operator", scopes=["admin"], secret=Secret(f"{TOKEN}-of-admin"))
    settings = Settings(tokens=[operator], plugins={"influx": {"token": "another-t0ken"}})
    assert TOKEN not in repr(settings)
    assert "another-t0ken" not in repr(settings)


def test_the_operators_token_may_be_in_a_file(tmp_path: Path) -> None:
    """The secret of a token may be in a file, which stands beside the settings, too."""
    (tmp_path / "admin").write_text(f"{TOKEN}-of-admin\n")
    (tmp_path / "trivet.toml").write_text(
        '[[tokens]]\nname = "operator"\nscopes = ["admin"]\nsecret = { file = "admin" }'
    )
    (operator,) = load_settings(tmp_path / "trivet.toml", {}).tokens
    assert operator.secret == Secret(f"{TOKEN}-of-admin")
    environ = {
        "TRIVET_TOKENS__OPERATOR__SECRET__FILE": str(tmp_path / "admin"),
        "TRIVET_TOKENS__OPERATOR__SCOPES": "admin",
    }
    (operator,) = load_settings(None, environ).tokens
    assert operator.secret == Secret(f"{TOKEN}-of-admin")
    (tmp_path / "admin").write_text("short")
    with pytest.raises(ConfigurationError, match="16 characters"):
        load_settings(tmp_path / "trivet.toml", {})
