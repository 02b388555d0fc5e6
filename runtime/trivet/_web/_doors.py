"""The doors of a program: which requests may pass, whichever way they are answered.

Owns the token of a request, the host that it names, the scope that a route asks for, and the
refusals.
Never knows which code answers: each way calls `Doors.admit` before anything of the request's is
done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from .._access._attempts import Attempts
from .._access._hosts import Hosts, is_cross_site, is_local, is_unix, name_of
from .._access._passes import Pass
from .._access._rates import EventRates, Rate
from .._access._sessions import Sessions
from .._access._tokens import ANYBODY, Caller, Scope, Token, Tokens
from .._program._addresses import is_of_systemd
from .._runtime import Runtime
from ._asgi import HttpScope, WebsocketScope
from ._context import RequestContext, current_context
from ._management import MANAGEMENT, is_served
from ._problems import ProblemError, stopping
from ._proxies import RECEIVED_HOST
from ._shortcuts import RequestHead
from ._targets import is_host, path_within

COOKIE = "trivet_session"
"""The name of the cookie of a browser that has signed in."""
PROBES = ("/livez", "/startupz", "/readyz")
"""The paths that are answered whatever host a request names."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
"""The methods that change nothing; a websocket's is none of them."""
INGEST_RULES = ("/events", "/events/<name>")
"""The rules at which each event is compared with the events that a token is for."""
SERVED_WHILE_STOPPING = (*PROBES, "/plugins")
"""The rules of the requests that are answered although they begin after the stop has begun."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


class Door(NamedTuple):
    """A door that a request asks for."""

    path: str
    """The path."""
    scope: Scope | None
    """The scope that its route asks for; None for a public one."""
    event: str | None = None
    """The name of the event that is published there; None at other routes."""


class Doors:
    """The doors of one program.

    Args:
        runtime: the program.
        addresses: the addresses that are listened at, `HOST:PORT` or `unix:PATH`, those for
            management included; None under somebody else's server.
        has_management: whether there are addresses for management among them.
    """

    def __init__(
        self,
        runtime: Runtime,
        addresses: Sequence[str] | None = None,
        *,
        has_management: bool = False,
    ) -> None:
        settings = runtime.program.settings
        self._runtime = runtime
        self._addresses = addresses
        self.is_split: bool = has_management or settings.management_bind is not None
        """Whether management has addresses of its own."""
        self.tokens = Tokens(settings.tokens)
        self.sessions = Sessions(self.tokens)
        self.event_rates = EventRates(settings.event_rates)
        self._attempts = Attempts()
        self._open_pass = Pass(None, self._attempts, is_proof=False, is_counted=False)
        self.heed()

    def heed(self) -> None:
        """Go by the present settings of the program from now on."""
        settings, addresses = self._runtime.program.settings, self._addresses
        named = (*settings.addresses, *settings.management_addresses, *(addresses or ()))
        binds = {name_of(each) for each in named if not is_of_systemd(each) and not is_unix(each)}
        self._hosts = Hosts({*settings.allowed_hosts, *binds})
        self._sites = Hosts(settings.allowed_hosts)  # At a bind's host other programs have pages.
        self.tokens.replace(settings.tokens)
        self.event_rates.replace(settings.event_rates)
        open_scopes = frozenset[Scope]({"ingest", "read"}) - self.tokens.scopes
        are_local = addresses is not None and all(map(is_local, addresses))
        is_here = settings.insecure or not self.tokens or are_local
        self.open_scopes = open_scopes if is_here else frozenset[Scope]()
        """The scopes that a client without a token has."""

    def caller_of(self, scope: HttpScope | WebsocketScope) -> Caller:
        """The sender of a request, with its token: in the header, or else in a session's cookie."""
        if not self.tokens:
            return ANYBODY
        for name, value in scope["headers"]:
            if name == b"authorization" and (secret := _bearer(value)) is not None:
                return self._sender(secret, address_of(scope))
        session = session_of(scope)
        return ANYBODY if session is None else Caller(self.sessions.token_of(session))

    def is_token(self, authorization: bytes) -> bool:
        """Whether the value of `Authorization` has a token of the operator's."""
        secret = _bearer(authorization)
        return secret is not None and self.tokens.find(secret) is not None

    def opens(self, needed: Scope, caller: Caller) -> bool:
        """Whether a caller may pass where a scope is asked for; nothing is counted."""
        token = caller.token
        return needed in self.open_scopes or (token is not None and needed in token.scopes)

    def serves(self, path: str) -> bool:
        """Whether a path, or a rule, is served at the address of the current request."""
        at_management = current_context().at_management
        return not self.is_split or is_served(path, at_management=at_management)

    def look_at(self, context: RequestContext, scope: HttpScope | WebsocketScope) -> None:
        """Look at the host that a request names, and at the site that it comes from.

        A request with a token in its header is from no page of another site, which could not know
        the token. The probes answer any host: a kubelet asks by the pod's address. Where a proxy
        tells the host that its client has named, both hosts count: a page that leads its own name
        here can send any header, but not another `Host`.

        Raises:
            ProblemError: the path is served at another address, or the host is not the service's.
        """
        if self.is_split:
            context.at_management = MANAGEMENT in (scope.get("extensions") or {})
            if not self.serves(path_within(scope)):
                raise ProblemError("unknown_path", f"nothing is at {scope['path']}")
        if context.caller.has_secret and context.caller.token is not None:
            return
        host, origins, sites = b"", list[bytes](), list[bytes]()
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origins.append(value)
            elif name == b"sec-fetch-site":
                sites.append(value)
        wrong = self._wrong_host(host, scope)
        if wrong is not None and (context.is_websocket or path_within(scope) not in PROBES):
            self._count_wrong(context.caller)
            named = name_of(wrong.decode("latin-1"))
            fault = f"this service is not {named!r}" if named else "the request names no `Host`"
            detail = f"{fault}; the operator names hosts in `allowed_hosts`"
            raise ProblemError("wrong_host", detail)
        if context.method not in SAFE_METHODS:  # Of two headers both have to be right.
            site, origin = b",".join(sites), b",".join(origins)
            context.is_cross_site = is_cross_site(site, origin, host, self._sites)

    def pass_of(self, head: RequestHead, door: Door, server: str) -> Pass | None:
        """The right of requests with this head to pass; None where `admit` has to decide.

        Nobody is refused here, and nothing is noted: a wrong token is counted by the layers. A
        session is looked up by them, too.

        Args:
            head: the requests'.
            door: the door that they ask for.
            server: the address of this machine that the client has reached.
        """
        host = head.get(b"host")
        if not is_host(host):
            return None
        if self.is_split and not is_served(door.path, at_management=False):
            return None
        if self.tokens and b"authorization" in head:
            return self._pass_of_token(head.get(b"authorization"), door)
        return self._open_pass if self._lets_anybody_in(head, door.scope, server) else None

    def _pass_of_token(self, authorization: bytes, door: Door) -> Pass | None:
        secret, needed = _bearer(authorization), door.scope
        token = None if secret is None else self.tokens.find(secret)
        is_open = needed is None or needed in self.open_scopes
        if token is None or not (is_open or needed in token.scopes):
            return None
        if token.events is not None and needed == "ingest" and door.event not in token.events:
            return None
        is_counted = needed is not None
        return Pass(token, self._attempts, is_proof=not is_open, is_counted=is_counted)

    def _lets_anybody_in(self, head: RequestHead, needed: Scope | None, server: str) -> bool:
        """Whether a request without a token passes: no session, an allowed host, no other site."""
        if needed is not None and needed not in self.open_scopes:
            return False
        host = head.get(b"host")
        if not self._hosts.allow(host, server) or (self.tokens and b"cookie" in head):
            return False
        site, origin = head.joined(b"sec-fetch-site"), head.joined(b"origin")
        return head.method in SAFE_METHODS or not is_cross_site(site, origin, host, self._sites)

    def _wrong_host(self, host: bytes, scope: HttpScope | WebsocketScope) -> bytes | None:
        """The host that a request names, if it is not the service's; None if it is.

        A proxy that tells its client's host need not name one itself.
        """
        server = scope.get("server")
        reached = server[0] if server else ""
        if not self._hosts.allow(host, reached):
            return host
        received = (scope.get("extensions") or {}).get(RECEIVED_HOST, b"")
        return None if not received.strip() or self._hosts.allow(received, reached) else received

    def admit(self, rule: str, needed: Scope | None) -> None:
        """Note the rule of the current request; refuse the request unless its sender may pass.

        Args:
            rule: the rule of its route.
            needed: the scope that the route asks for; None for a public one.

        Raises:
            ProblemError: a token for the scope is missing or wrong, or has asked too often, or the
                service stops.
        """
        context = current_context()
        context.rule = rule
        if needed is not None:
            self.refuse_cross_site()
            if needed not in self.open_scopes:
                self._require(context.caller, needed, rule)
            token = context.caller.token
            if token is not None and token.rate is not None:
                _count_request(token.name, token.rate)
        if self._runtime.stopping.is_set() and rule not in SERVED_WHILE_STOPPING:
            raise stopping()

    def refuse_cross_site(self) -> None:
        """Refuse the current request if a page of another site has sent it.

        Raises:
            ProblemError: one has, and the request would change something, or is a websocket.
        """
        context = current_context()
        if context.is_cross_site:
            self._count_wrong(context.caller)
            raise ProblemError("cross_site", "pages of another site may not ask for this")

    def checked(self, secret: bytes, address: str) -> Token:
        """The token with a secret.

        Raises:
            ProblemError: there is none, or the address has sent too many wrong ones.
        """
        return self._identified(self._sender(secret, address))

    def _sender(self, secret: bytes, address: str) -> Caller:
        """The sender of a secret. An address that is slowed down has no right one."""
        token = self.tokens.find(secret)
        if token is not None and self._attempts.wait(address) > 0:
            token = token if self._attempts.knows(address, token.name) else None
        return Caller(token, has_secret=True, address=address)

    def _require(self, caller: Caller, needed: Scope, rule: str) -> None:
        if needed not in self.tokens.scopes:
            detail = f'no token has the scope "{needed}": the operator writes one in [[tokens]]'
            raise ProblemError("forbidden", detail, {"scope": needed})
        if caller.token is None and not caller.has_secret:
            raise _unauthorized(f'send `Authorization: Bearer` with a token for "{needed}"')
        token = self._identified(caller)
        if needed not in token.scopes:
            detail = f'the token {token.name!r} has no scope "{needed}"'
            raise ProblemError("forbidden", detail, {"scope": needed})
        if token.events is not None and needed == "ingest" and rule not in INGEST_RULES:
            detail = f"the token {token.name!r} is for certain events only"
            raise ProblemError("forbidden", detail, {"scope": needed})

    def _identified(self, caller: Caller) -> Token:
        """The caller's token, unless its address has to wait."""
        token, address = caller.token, caller.address
        if token is not None and not caller.has_secret:
            return token  # By a session, whose signature nobody guesses.
        if token is None:
            if (wait := self._attempts.wait(address)) > 0:
                detail = "too many wrong tokens came from this address"
                raise ProblemError("too_many_attempts", detail, retry_after=wait)
            self._count_wrong(caller)
            raise _unauthorized("the token is unknown")
        self._attempts.succeeded(address, token.name)
        return token

    def _count_wrong(self, caller: Caller) -> None:
        """Count the secret of a caller if it is wrong, and its address need not wait.

        A refusal that the right secret would have avoided tells that this one is wrong, whatever
        reason it names. So each of them counts.
        """
        address = caller.address
        if caller.token is None and caller.has_secret and self._attempts.wait(address) == 0:
            self._attempts.failed(address)
            _log.warning("wrong token", client=address, route=current_context().route)


def _count_request(token: str, rate: Rate) -> None:
    wait = rate.wait()
    if wait > 0:
        detail = f"the token {token!r} has asked too often"
        raise ProblemError("too_many_requests", detail, retry_after=wait)
    rate.take()


def require_event(name: str) -> None:
    """Refuse an event that the token of the current request is not for.

    Raises:
        ProblemError: the token is for certain events only, and not for this one.
    """
    token = current_context().caller.token
    if token is not None and token.events is not None and name not in token.events:
        events = sorted(token.events)
        detail = f"the token {token.name!r} is for {', '.join(events)} only"
        raise ProblemError("forbidden", detail, {"scope": "ingest", "events": events})


def session_of(scope: HttpScope | WebsocketScope) -> str | None:
    """The value of the session's cookie, where a request has one."""
    for name, cookies in scope["headers"]:
        if name == b"cookie" and COOKIE.encode() in cookies:
            for cookie in cookies.decode("latin-1").split(";"):
                key, _, value = cookie.partition("=")
                if key.strip() == COOKIE:
                    return value.strip()
    return None


def _bearer(authorization: bytes) -> bytes | None:
    """The secret in the value of `Authorization`; None in another scheme than Bearer."""
    scheme, _, secret = authorization.partition(b" ")
    return secret.strip() if scheme.lower() == b"bearer" else None


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def address_of(scope: HttpScope | WebsocketScope) -> str:
    """The address of a request's sender; empty where it has none, as on a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""
