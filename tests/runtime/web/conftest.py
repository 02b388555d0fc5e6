"""Servers with and without TLS."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import attrs
import pytest
import trustme

from trivet import Settings, TlsSettings


@attrs.frozen
class Authority:
    """An authority that everybody trusts, and a certificate that it has signed."""

    ca: trustme.CA
    file: Path
    """The authority's own certificate."""
    settings: TlsSettings
    """The settings of a server at 127.0.0.1."""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority, made once."""
    directory = tmp_path_factory.mktemp("authority")
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1", "localhost")
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    settings = TlsSettings(certificate=directory / "server.pem")
    return Authority(ca, directory / "ca.pem", settings)


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The authority, which every client of the test trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


@pytest.fixture(params=["plain", "TLS"])
def over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test of a module once without and once with TLS, for every server that it starts."""
    if request.param == "TLS":
        authority: Authority = request.getfixturevalue("trusted")
        with_tls = partial(Settings, tls=authority.settings)
        monkeypatch.setattr("trivet.testing._programs.Settings", with_tls)
    return str(request.param)
