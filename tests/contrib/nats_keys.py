"""Keys of NATS users, accounts and operators, and their signatures, as `nsc` makes them."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any, Literal

import attrs
import nkeys  # type: ignore[import-untyped]

from .nats_server import NatsServer

Kind = Literal["user", "account", "operator"]
PREFIXES: dict[Kind, int] = {
    "user": nkeys.PREFIX_BYTE_USER,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
}


@attrs.frozen
class Key:
    """A key that nobody else has."""

    kind: Kind
    _pair: Any = attrs.field(repr=False)

    @classmethod
    def of(cls, kind: Kind) -> Key:
        """Make a key."""
        return cls(kind, nkeys.from_seed(nkeys.encode_seed(os.urandom(32), PREFIXES[kind])))

    @property
    def public(self) -> str:
        """The public key."""
        name: bytes = self._pair.public_key
        return name.decode()

    @property
    def seed(self) -> str:
        """The seed, which is secret."""
        seed: bytes = self._pair.seed
        return seed.decode()

    def token(self, subject: Key, **claims: object) -> str:
        """A JWT that the key has signed."""
        facts = {"type": subject.kind, "version": 2, **claims}
        names = {"iss": self.public, "sub": subject.public, "name": subject.kind}
        said = {"jti": subject.kind, "iat": 1_700_000_000, **names, "nats": facts}
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = ".".join(_part(json.dumps(each).encode()) for each in (head, said))
        signature: bytes = self._pair.sign(signed.encode())
        return f"{signed}.{_part(signature)}"


def _part(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


class WithOperator(NatsServer):
    """A server that trusts its operator alone, who has signed an account."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._operator, self._account = Key.of("operator"), Key.of("account")
        self._system = Key.of("account")  # JetStream needs a system account.

    def _write(self) -> None:
        at_most = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
        stored = ("mem_storage", "disk_storage", "streams", "consumer")
        limits = {**dict.fromkeys((*at_most, *stored), -1), "wildcards": True}
        account = self._operator.token(self._account, limits=limits)
        system = self._operator.token(self._system)
        self.config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f"jetstream {{ store_dir: {json.dumps(str(self.directory))} }}\n"
            f"operator: {self._operator.token(self._operator)}\nresolver: MEMORY\n"
            f"system_account: {self._system.public}\n"
            f"resolver_preload: {{\n  {self._account.public}: {account}\n"
            f"  {self._system.public}: {system}\n}}\n"
        )

    def credentials(self, file: Path, *, of: Key | None = None) -> Path:
        """A user's credentials, signed by the account or by another key."""
        user = Key.of("user")
        parts = {
            "NATS USER JWT": (of or self._account).token(user, subs=-1, data=-1, payload=-1),
            "USER NKEY SEED": user.seed,
        }
        file.write_text(
            "\n".join(
                f"-----BEGIN {name}-----\n{part}\n------END {name}------\n"
                for name, part in parts.items()
            )
        )
        return file
