"""The operator's tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trivet import ConfigurationError, Secret, Settings, TokenSettings, load_settings
from trivet._access._tokens import Tokens

SECRET = "correct-horse-battery"

TABLE = """
[[tokens]]
name = "shop"
scopes = ["ingest"]
events = ["order_placed"]
secret = "correct-horse-battery"

[[tokens]]
name = "ops-team"
scopes = ["read", "admin"]
secret = "staple-correct-horse"
"""


def written(directory: Path, text: str) -> Path:
    """A settings file with this text."""
    file = directory / "trivet.toml"
    file.write_text(text)
    return file


def test_the_settings_are_read(tmp_path: Path) -> None:
    """Each table `[[tokens]]` is a token, whose secret no representation shows."""
    settings = load_settings(written(tmp_path, TABLE), environ={})
    shop, ops = settings.tokens
    assert (shop.name, shop.scopes, shop.events) == ("shop", ["ingest"], ["order_placed"])
    assert (ops.name, ops.scopes, ops.events) == ("ops-team", ["read", "admin"], None)
    assert "horse" not in repr(settings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("staple-correct-horse", "short"), "tokens[1].secret: expected at least 16 characters"),
        (("staple-correct-horse", "with a space in the midst"), "tokens[1].secret: expected let"),
        (("staple-correct-horse", SECRET), "tokens: two tokens have one secret"),
        (('"ops-team"', '"shop"'), "tokens: two tokens have one name"),
        (('"ops-team"', '"ops team"'), "tokens[1].name: expected 1 to 64 letters and digits"),
        (('["read", "admin"]', "[]"), "tokens[1].scopes: expected one at least"),
        (
            ('["read", "admin"]', '["raed"]'),
            "tokens[1].scopes[0]: expected one of 'ingest', 'read'",
        ),
        (('["ingest"]', '["read"]'), "tokens[0].events: only a token with the scope"),
        (('["order_placed"]', "[]"), "tokens[0].events: expected one at least"),
        (('name = "ops-team"', 'nme = "x"'), "tokens[1].nme: unknown key, did you mean 'name'?"),
    ],
)
def test_a_token_that_is_wrong_is_a_fault(
    change: tuple[str, str], said: str, tmp_path: Path
) -> None:
    """A faulty token is refused by its place, and its secret is not shown."""
    file = written(tmp_path, TABLE.replace(*change))
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, environ={})
    assert f"{file}: {said}" in str(caught.value)
    assert "horse" not in str(caught.value)


def test_the_environment_gives_a_secret(tmp_path: Path) -> None:
    """`TRIVET_TOKENS__NAME__SECRET` is the secret of the token with this name, and
    `TRIVET_TOKENS__NAME__SCOPES` makes a token that the file does not have."""
    text = TABLE.replace('secret = "staple-correct-horse"', "")
    environ = {
        "TRIVET_TOKENS__OPS_TEAM__SECRET": "of-the-environment",
        "TRIVET_TOKENS__NEW__SECRET": "another-of-these-secrets",
        "TRIVET_TOKENS__NEW__SCOPES": "read,ingest",
    }
    settings = load_settings(written(tmp_path, text), environ=environ)
    assert [token.name for token in settings.tokens] == ["shop", "ops-team", "new"]
    assert [token.secret.reveal() for token in settings.tokens[1:]] == [
        "of-the-environment",
        "another-of-these-secrets",
    ]
    assert settings.tokens[2].scopes == ["read", "ingest"]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TRIVET_TOKENS__SHOP__SECRET": "short"}, "TRIVET_TOKENS__SHOP__SECRET: expected at"),
        ({"TRIVET_TOKENS": "a,b"}, "TRIVET_TOKENS: expected a table"),
        ({"TRIVET_TOKENS__SHOP": SECRET}, "TRIVET_TOKENS__SHOP: a token is a table: write"),
        (
            {"TRIVET_TOKENS__NEW__SCOPES": "read"},
            "TRIVET_TOKENS__NEW__SCOPES: the table that it makes has no 'secret': expected a str",
        ),
    ],
)
def test_a_variable_that_is_wrong_is_named(
    environ: dict[str, str], said: str, tmp_path: Path
) -> None:
    """The fault of a variable names the variable."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(written(tmp_path, TABLE), environ=environ)
    assert said in str(caught.value)


def test_tokens_that_are_no_array(tmp_path: Path) -> None:
    """A variable for a token where the file has another thing is a fault that names both."""
    file = written(tmp_path, "tokens = 5")
    with pytest.raises(ConfigurationError, match="TRIVET_TOKENS__A__SECRET: tokens is set, and no"):
        load_settings(file, environ={"TRIVET_TOKENS__A__SECRET": SECRET})


def test_a_secret_finds_its_token() -> None:
    """A token is found by its whole secret, and by nothing else."""
    given: list[Any] = [
        TokenSettings(name="shop", scopes=["ingest"], secret=Secret(SECRET)),
        TokenSettings(name="ops", scopes=["read", "admin"], secret=Secret(SECRET + "x")),
    ]
    tokens = Tokens(given)
    shop, ops = tokens.named("shop"), tokens.named("ops")
    assert shop is not None
    assert ops is not None
    assert tokens.find(SECRET.encode()) is shop
    assert tokens.find(SECRET.encode() + b"x") is ops
    for wrong in (b"", SECRET.encode()[:-1], SECRET.upper().encode(), b"\xff" * 9000):
        assert tokens.find(wrong) is None
    assert tokens.scopes == {"ingest", "read", "admin"}
    assert SECRET not in repr(shop)


def test_no_tokens() -> None:
    """A program without tokens has none for any scope."""
    tokens = Tokens(Settings().tokens)
    assert not tokens
    assert tokens.find(b"") is None
    assert tokens.scopes == set()
