"""The sockets of a program, which are bound before anything starts.

Owns which of them are for management, and which of systemd's an address means.
Never knows what is served, nor which process serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from errno import EADDRINUSE

import attrs
import structlog

from .._faults._errors import ConfigurationError, StartError
from .._program._addresses import SYSTEMD, is_of_systemd
from .._program._settings import Settings, refuse_open_doors
from .._web._server._binding import address_of, bind_socket, sockets_of_systemd

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.frozen
class Listeners:
    """The sockets that are bound, by what they are for."""

    public: list[int]
    """The descriptors for `bind`."""
    management: list[int]
    """The descriptors for `management_bind`."""

    @property
    def all(self) -> list[int]:
        """Each of them."""
        return [*self.public, *self.management]

    def refuse_open_doors(self, settings: Settings) -> None:
        """Refuse a socket that other machines reach, where no token keeps them out.

        An address is refused before it is bound; systemd's, and a name's, are known only now.

        Raises:
            ConfigurationError: there is such a socket, and the operator has not written `insecure`.
        """
        public, management = (
            [address_of(f"fd://{listener}") for listener in each]
            for each in (self.public, self.management)
        )
        refuse_open_doors(settings, public, management)


def bind(settings: Settings) -> Listeners:
    """Bind the addresses of the settings.

    Returns:
        Sockets that are bound, and do not listen yet; systemd's may.

    Raises:
        StartError: an address cannot be bound.
    """
    addresses, management = settings.addresses, settings.management_addresses
    of_systemd = _taken({each for each in (*addresses, *management) if is_of_systemd(each)})
    return Listeners(_bound(addresses, of_systemd), _bound(management, of_systemd))


def addresses_of(settings: Settings) -> list[str]:
    """The addresses of the settings, with the keys that name them."""
    return [
        *(f"bind {address}" for address in settings.addresses),
        *(f"management_bind {address}" for address in settings.management_addresses),
    ]


def check_addresses(settings: Settings, bound: list[str], *, refuses: bool) -> None:
    """Check that the settings name the addresses to which the inherited sockets are bound.

    Args:
        settings: the settings.
        bound: those addresses, as `addresses_of` has them.
        refuses: whether other addresses are a fault; otherwise they are a warning in the log.

    Raises:
        ConfigurationError: the settings name others.
    """
    wanted = addresses_of(settings)
    if wanted == bound:
        return
    if refuses:
        raise ConfigurationError(
            f"the program listens at {', '.join(bound)}, and the settings say "
            f"{', '.join(wanted)}: a restart keeps the sockets; stop the program, and start it"
        )
    _log.warning("other addresses take effect when the parent starts", bound=bound, wanted=wanted)


def _taken(addresses: set[str]) -> Mapping[str, list[int]]:
    """The descriptors of systemd's sockets by their addresses, `systemd` or `systemd:NAME`."""
    if not addresses:
        return {}
    found: dict[str, list[int]] = {}
    try:
        for name, given in sockets_of_systemd():
            named = f"{SYSTEMD}:{name}"
            found.setdefault(named if named in addresses else SYSTEMD, []).append(given.detach())
    except OSError as error:
        raise StartError(f"cannot listen on {SYSTEMD}: {error.strerror or error}") from error
    if SYSTEMD in found and SYSTEMD not in addresses:
        raise StartError(f"no address names a socket that {SYSTEMD} has handed over")
    return found


def _bound(addresses: Iterable[str], of_systemd: Mapping[str, list[int]]) -> list[int]:
    bound: list[int] = []
    for address in addresses:
        if not is_of_systemd(address):
            bound.append(_bind(address))
        elif address in of_systemd:
            bound += of_systemd[address]
        else:
            raise StartError(f"cannot listen on {address}: systemd has handed over no such socket")
    return bound


def _bind(address: str) -> int:
    try:
        return bind_socket(address).detach()
    except OSError as error:
        advice = "; choose another by `bind` or `--bind`" if error.errno == EADDRINUSE else ""
        reason = f"{error.strerror or error}{advice}"
        raise StartError(f"cannot listen on {address}: {reason}") from error
