"""A secret in a file of its own: what is part of it, what is a fault, and what is a warning."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from trivet import BackgroundPlugin, Secret, Settings, TokenSettings
from trivet._program._loader import load
from trivet._program._misfits import MisfitError
from trivet._program._secret_files import LARGEST, credential_file, read_secret


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"hunter22", "hunter22"),
        (b"hunter22\n", "hunter22"),
        (b"hunter22\r\n", "hunter22"),
        (b"hunter22\n\n", "hunter22\n"),
        (b"hunter22\r", "hunter22\r"),
        (b" hunter22 ", " hunter22 "),
        (b"a\nb\n", "a\nb"),
        ("wörd".encode(), "wörd"),
    ],
)
def test_one_newline_at_the_end_is_not_part_of_a_secret(
    tmp_path: Path, content: bytes, text: str
) -> None:
    """An editor's newline is left out; anything else is the secret's own."""
    file = tmp_path / "token"
    file.write_bytes(content)
    secret = read_secret(file)
    assert (secret.reveal(), secret.file) == (text, file)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\r\n", "is empty"),
        (b"hunter22\xff", "is not UTF-8"),
        (b"a" * (LARGEST + 1), f"is no secret: more than {LARGEST} bytes"),
        (None, f"cannot be read: {os.strerror(errno.ENOENT)}"),
    ],
)
def test_a_fault_names_the_file(tmp_path: Path, content: bytes | None, fault: str) -> None:
    """A file that is missing, empty, too large or not UTF-8 is named, and its content is not."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(MisfitError) as caught:
        read_secret(file)
    assert str(caught.value) == f"{file} {fault}"


def test_a_secret_is_in_a_regular_file(tmp_path: Path) -> None:
    """A directory, a device and a pipe, which might never end, are refused at once."""
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(MisfitError, match="is not a regular file"):
            read_secret(file)
    with pytest.raises(MisfitError, match="cannot be read"):
        read_secret(tmp_path / "a\0b")


def test_a_link_leads_to_a_secret(tmp_path: Path) -> None:
    """A symbolic link is followed, since Kubernetes mounts secrets behind two of them."""
    (tmp_path / "v1").write_text("hunter22")
    (tmp_path / "token").symlink_to("v1")
    assert read_secret(tmp_path / "token").reveal() == "hunter22"


def test_a_credential_is_in_systemds_directory() -> None:
    """A credential is a file in the directory that systemd names, and nowhere else."""
    environ = {"CREDENTIALS_DIRECTORY": "/run/credentials/trivet.service"}
    file = credential_file("token", environ)
    assert file == Path("/run/credentials/trivet.service/token")
    for name in ("../token", "/etc/passwd", "..", ".", ""):
        with pytest.raises(MisfitError, match="without a directory"):
            credential_file(name, environ)
    with pytest.raises(MisfitError, match=r"\$CREDENTIALS_DIRECTORY is not set"):
        credential_file("token", {})


@attrs.frozen
class Login:
    name: str
    password: Secret


class Client(BackgroundPlugin):
    """Has secrets in every kind of setting."""

    token: Secret | None = None
    headers: dict[str, Secret] = attrs.field(factory=dict[str, Secret])
    keys: list[Secret] = attrs.field(factory=list[Secret])
    login: Login | None = None


def warnings(table: dict[str, Any], **settings: Any) -> list[str]:
    """The files of which the loading of a plugin warns."""
    with capture_logs() as logged:
        load(Settings(plugins={"client": table}, **settings), plugins=[Client])
    return [line["file"] for line in logged if "others may read" in line["event"]]


def test_a_file_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    """The warning is about each readable file once, wherever among the settings it is named."""
    files = [tmp_path / name for name in "abcde"]
    for file in files:
        file.write_text("hunter22")
        file.chmod(0o644)
    files[4].chmod(0o640)
    given = [{"file": str(file)} for file in files]
    table = {
        "token": given[0],
        "headers": {"A": given[1]},
        "keys": [given[2], given[2], given[4], "in the settings"],
        "login": {"name": "ann", "password": given[3]},
    }
    assert warnings(table) == [str(file) for file in files[:4]]
    assert warnings({"token": "in the settings"}) == []


def test_the_programs_own_secrets_are_looked_at(tmp_path: Path) -> None:
    """A readable file with the operator's token is a warning, too."""
    file = tmp_path / "token"
    file.write_text("an-operators-token")
    file.chmod(0o604)
    secret = read_secret(file)
    tokens = [TokenSettings(name="operator", scopes=["admin"], secret=secret)]
    assert warnings({}, tokens=tokens) == [str(file)]
    file.unlink()
    assert warnings({}, tokens=tokens) == []
