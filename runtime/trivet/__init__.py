"""Trivet: a plugin runtime with structured concurrency, on Trio.

The rooms of the house, from the command line down to what all the others use. Each room imports
only from the rooms below it. Where a room has several lines, each line names some of its modules,
and says what they are for.

    testing/            the kit for tests of plugins: _programs _accidents _leaks
    _cli/               the command line
        _options _loading _printing
                            what several commands share
        _check _installation _strict
                            every fault of a program, of the machine around it, and of its plugins'
                            code
        _settings _schema _completion
                            what an operator, an editor and a shell ask
        _new _demo          a plugin to begin from, and the example plugins, served
        _dead_letters _letters _store
                            events that were given up, and the file of durable inboxes
        _running _orders _looking _publishing _changing _tap
                            a running program that is asked: orders, its inside, an event for it,
                            other settings, its events as they pass
        _top _top_facts _top_view
                            the overview of such a program in a terminal
    asgi                a program under somebody else's server
    aio                 a program inside a service on asyncio
    _embedded/          the thread of such a program: _thread _crossing
    _process/           `trivet serve`, its parent and its end
        _serve _stop        the server and the exit code; the requests to stop
        _parent/            the process that watches over the serving one: __main__ _config _keeper
                            _child _succession _suspects _deaths _orphans _last_words _manager
        _lifeline _wire     the pipes between, and what is said there
        _escalation _watchdog
                            the steps that end a stop whose budget is over, and the steps within the
                            process
        _hangups            SIGHUP: a reload
        _report _python_warnings
                            the last words of a process; Python's own warnings, with their plugins
        _sockets _safe_mode the addresses, bound before anything starts; plugins that start disabled
        _changes            files that change, in development
        _rehearsal          every plugin's start and stop, without the program
    _web/               HTTP
        _service _late _importing
                            the layers around a request; Quart, imported when it is needed
        _app _views _availability _admin _replacement _plugin_details _sign_in _probes _snapshot
        _metrics _metric_families _metric_families_http _traffic _event_streams
                            plugin routes on Quart, an operator's requests, sessions, probes,
                            metrics, streams
        _doors _management  who may pass, whichever way the request is answered; the paths that may
                            have addresses of their own
        _dead_letters _inspection _stalls _reload _settings
                            an operator's too: events that were given up; event types, tasks and
                            diagnostics; the settings read anew, seen and changed
        _taps _tap _inboxes _envelopes _plugin_pages
                            events as they pass, or wait, and what an operator is shown of one;
                            pages that plugins' authors have written
        _page/              the page at `/-/`: _endpoints _root _files _live _state _advice _series
        _contracts _openapi _openapi_admin _asyncapi
                            what there is, for clients: every route, every event type
        _fast_path _plain_routes _begun _plain_responses
                            endpoints, and plugin routes, that are answered without Quart
        _ingest/            events from clients: _by_name _ndjson _cloudevents _publishing _shortcut
        _shortcuts _route_shortcuts _proxied_shortcuts
                            requests that Trivet's own server answers in one call
        _proxies _middleware _context _monitoring _first_wait _senders _bodies _targets _crashes
        _problems
                            around each request: its identity, points, response, body, faults
        _quart/             what is overridden: _inside _detached _requests _forms _responses
                            _websockets
        _server/            HTTP/1.1: _listening _accepting _binding _connection _exchange
                            _websocket _receive_queue _peer _request _tls _known_heads _heads
                            _transport
        _asgi               the types between servers and applications
    _reload/            other settings and other plugins for a running program
        _reloader _attempt _looking _changeover _cargo _newcomers _departure _patches _versions
                            what has changed, or is given up; from the old instances to the new;
                            which settings an operator has seen
    _runtime            the running program: the order of start and stop, and the `app`
    _hosting            an inbox, an instance and a host for each plugin
    _delivery/          how an event reaches a plugin
        _publisher _traced _bus _fairness _waits
                            from a publisher to each subscriber, so that nobody starves; handlers
                            that wait for one another
        _bounded            the inbox, assembled from
        _admission _pending_offer _in_flight _queue _repeats _endings _attempts _retries
                            the events that come in, those with the plugin, their order, duplicates,
                            their ends, and another attempt or none
        _memory _looks      the bytes that all inboxes share; what an operator sees of one
        _backing _in_memory _on_disk _beyond _held _progress
                            where its events are besides: nowhere, or in the store, read when there
                            is room
    _supervision/       how a plugin lives, fails and stops
        _host _lifetime _needs
                            one plugin from start to stop; one of its lifetimes; what it needs
        _orders _supervised_inbox _history
                            what an operator asks of it; its inbox, as seen from here; the statuses
                            that it has had
        _restarts _starts _stop_plan _handover
                            when it is started again, starts side by side, a stop's deadlines, one
                            instance after the other
    _store/             events on disk, in one SQLite file
        _store _journal     as the event loop sees it; as its thread does
        _keeper _commit _group _inbox
                            how long it is open; what is written at once, and who waits for that;
                            an inbox's part
        _tables _ends _subscribers _unwritten
                            the log of events: what comes in, what ends, for whom, and what has
                            ended besides
        _schema _records _packing _pages _register
                            its tables, rows and errors, events as bytes, pages, events in flight
        _up_to_date         whether a file is made anew: it has an earlier form, or is damaged
        _anew _copying _raw a new file in the place of an old one; the rows that can be read
        _migration _salvage what is copied of a file of an earlier form, and of a damaged one
        _check              whether all of a file fits together
        _dead_letters _documents _copies
                            what an operator asks, backups
        _health _upkeep _room _ballast _files _lock
                            what the log says, room on the disk, one owner
    _loop/              what each plugin does to the event loop: _tasks _task_list _inside _meter
                        _processor _usage _stall_watch _profile _kept_stalls
    _log/               a log that never waits and never raises: _logging _levels _recent
                        _tracebacks _writer _failures
    _program/           from settings and files to a checked program
        _settings _addresses _reading _structuring _values _secret_files _misfits
                            `trivet.toml` and the environment, and what is wrong in them
        _overlay _overlay_file
                            the settings that were changed while the program ran
        _certificates       the operator's certificate and key, for TLS
        _origins _json_schema
                            where each setting came from, and what an editor may know of it
        _finder _inspection _left_out _not_imported _plugin_tables _order _loader _collector
                            modules, classes, what a run leaves out, tables, the order of starts,
                            the program, its faults
        _permissions _requirements
                            code that others may write, and code for another version of Trivet
        _versions _difference _generations _reloads
                            the code of each plugin, as it was loaded; what a reload changes, and
                            what it imports anew
        _garbage            Python's garbage collector, which pauses meanwhile
    _on_asyncio/        plugins whose coroutines run on asyncio
        _plugin _bridge _crossings _patched_loop
    _plugins/           what an author writes
        _plugin _event_plugins
                            the classes
        _definition _hooks _instance _internals _resources
                            their checks, their instances
        _routes _streams _pages _status _supervision_settings _channels
                            routes, server-sent events, pages for operators, statuses, restarts,
                            brokers' channels
    _inbox/             how a plugin reads its events
        _inbox _batching _workers _workloads
                            events one by one, in batches, and the tasks that handle them
        _counts _readers _gate _fast_path _quantum
                            shared by all these: counters, readers that wait, the gate that an
                            operator may shut, the short way for plain events, how long a task runs
                            before others get a turn
        _latencies _histogram
                            how long events wait, and attempts take
    _access/            who may do what: _tokens _sessions _passes _attempts _hosts _rates
    _events/            what happens, and what became of it
        _event _event_class _types _payloads _cloudevents
                            event classes, how they are made, to and from JSON and CloudEvents
        _delivery _outcome _fates _history
                            an event in its envelope, and its end
        _tracing            spans, where traces are enabled
        _delivery_settings _filters
                            what an operator decides about a subscription
        _successors         an event class that follows another of its name
        _operator_action    the event of what an operator has done
        _examples           events for tests
        _sizes _turns _collisions _author_code
                            the cost of what comes from outside
    _faults/            what can go wrong, and how it is told: _errors _containment _backoff _stacks
                        _frames _advice _masking _secret _acts
    _early              the first line of `trivet serve`

One event: `_web._ingest` or `app.publish` → `_delivery._publisher` → `_bus` → an inbox's
`_admission` (a durable one's has it stored first, by `_on_disk` in `_store`) → `EventPlugin.run`,
whose `_inbox._workers` live inside its `_supervision._host` → the author's `handle_event`.

One stop: `_process._parent` hears the signal and tells `_watchdog`. `_serve` then cancels the
innermost block, which serves HTTP. The blocks around it, in `_runtime.running`, end after it, the
inner ones first: that is the order of a stop.
"""

from . import _early as _early

# isort: split

from importlib.metadata import version as _version

from ._access._tokens import TokenSettings as TokenSettings
from ._events._cloudevents import CloudEvent as CloudEvent
from ._events._cloudevents import CloudEventError as CloudEventError
from ._events._delivery import Delivery as Delivery
from ._events._delivery import Envelope as Envelope
from ._events._delivery import Origin as Origin
from ._events._delivery import Receipt as Receipt
from ._events._delivery import current_delivery as current_delivery
from ._events._delivery import current_origin as current_origin
from ._events._delivery_settings import DeliveryPolicy as DeliveryPolicy
from ._events._delivery_settings import DeliverySettings as DeliverySettings
from ._events._event import Event as Event
from ._events._event import MonitoringEvent as MonitoringEvent
from ._events._event import MonitoringPoint as MonitoringPoint
from ._events._event import SendingEvent as SendingEvent
from ._events._event import Timestamp as Timestamp
from ._events._fates import Fate as Fate
from ._events._operator_action import OperatorActionEvent as OperatorActionEvent
from ._events._outcome import Outcome as Outcome
from ._events._outcome import Refusal as Refusal
from ._events._payloads import encode_event as encode_event
from ._events._types import EventTypes as EventTypes
from ._faults._backoff import full_jitter as full_jitter
from ._faults._errors import ConfigurationError as ConfigurationError
from ._faults._errors import CriticalPluginError as CriticalPluginError
from ._faults._errors import DeadlockError as DeadlockError
from ._faults._errors import DefinitionError as DefinitionError
from ._faults._errors import EventDecodeError as EventDecodeError
from ._faults._errors import EventEncodeError as EventEncodeError
from ._faults._errors import EventTooLargeError as EventTooLargeError
from ._faults._errors import HandlerTimeoutError as HandlerTimeoutError
from ._faults._errors import ListenerLostError as ListenerLostError
from ._faults._errors import OrderRefusedError as OrderRefusedError
from ._faults._errors import PermanentError as PermanentError
from ._faults._errors import PluginError as PluginError
from ._faults._errors import PluginNotActiveError as PluginNotActiveError
from ._faults._errors import ProgramEndedError as ProgramEndedError
from ._faults._errors import ReloadRefusedError as ReloadRefusedError
from ._faults._errors import RetryAfter as RetryAfter
from ._faults._errors import StartError as StartError
from ._faults._errors import TrivetError as TrivetError
from ._faults._errors import UnknownEventError as UnknownEventError
from ._faults._errors import WrongSettingError as WrongSettingError
from ._faults._secret import Secret as Secret
from ._inbox._batching import Batch as Batch
from ._inbox._batching import batched as batched
from ._inbox._counts import InboxStatistics as InboxStatistics
from ._inbox._inbox import Inbox as Inbox
from ._loop._usage import SERVICE as SERVICE
from ._loop._usage import Usage as Usage
from ._on_asyncio._plugin import AsyncioPlugin as AsyncioPlugin
from ._plugins._channels import BrokerChannel as BrokerChannel
from ._plugins._event_plugins import BatchPlugin as BatchPlugin
from ._plugins._event_plugins import EventPlugin as EventPlugin
from ._plugins._event_plugins import EventSendingPlugin as EventSendingPlugin
from ._plugins._event_plugins import MonitoringPlugin as MonitoringPlugin
from ._plugins._pages import Curve as Curve
from ._plugins._pages import Facts as Facts
from ._plugins._pages import Part as Part
from ._plugins._pages import Table as Table
from ._plugins._pages import page as page
from ._plugins._plugin import App as App
from ._plugins._plugin import BackgroundPlugin as BackgroundPlugin
from ._plugins._plugin import Plugin as Plugin
from ._plugins._plugin import SourcePlugin as SourcePlugin
from ._plugins._routes import Handler as Handler
from ._plugins._routes import route as route
from ._plugins._routes import websocket_route as websocket_route
from ._plugins._status import PluginStatusEvent as PluginStatusEvent
from ._plugins._status import Status as Status
from ._plugins._streams import EventStream as EventStream
from ._plugins._streams import ServerSentEvent as ServerSentEvent
from ._plugins._supervision_settings import SupervisionSettings as SupervisionSettings
from ._program._reading import load_settings as load_settings
from ._program._settings import LogSettings as LogSettings
from ._program._settings import Settings as Settings
from ._program._settings import ShutdownSettings as ShutdownSettings
from ._program._settings import StallSettings as StallSettings
from ._program._settings import StartupSettings as StartupSettings
from ._program._settings import StoreSettings as StoreSettings
from ._program._settings import TlsSettings as TlsSettings
from ._program._settings import TraceSettings as TraceSettings
from ._runtime import Runtime as Runtime
from ._runtime import open_runtime as open_runtime
from ._web import create_app as create_app
from ._web import listening as listening

__version__ = _version("trivet")
