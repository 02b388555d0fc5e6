"""Trivet: a plugin runtime with structured concurrency, on Trio.

The rooms of the house, from the street to the foundation; each imports only what is below it:

    _cli                        the command line
    _serve, asgi, testing       three ways to run a program, and one to test its plugins
    _early                      the first line of `trivet serve`
    _parent, _lifeline, _ladder the process that watches over `trivet serve`
    _report, _log_writer        what is left of a process that ends; a log that never waits
    _http                       HTTP for a program of one's own: the door to the next room
    _web                        what HTTP sees: plugin routes, ingest, probes, measurements
    _runtime                    the running program: the order of start and stop, and the `app`
    _loader                     from settings and files to a checked program
    _delivery, _supervision     how an event reaches a plugin; how a plugin lives, fails and dies
    the vocabulary              events, envelopes, fates, plugins, routes, settings, errors

One event: `_web._ingest` or `app.publish` → `_delivery._bus` → an inbox (`_delivery._memory`, or
`_delivery._durable` and through its `_store` onto the disk) → `EventPlugin.run`, whose `_workers`
live inside its `_supervision._host` → the author's `handle_event`.

One stop: `_parent` hears the signal and tells `_supervision._watchdog`, which has `_serve` cancel
the innermost block; `_runtime.running`, read from the inside out, is the order of what follows.
"""

from . import _early as _early

# isort: split

from importlib.metadata import version

from ._events._cloudevents import CloudEvent as CloudEvent
from ._events._cloudevents import CloudEventError as CloudEventError
from ._events._delivery import Delivery as Delivery
from ._events._delivery import Envelope as Envelope
from ._events._delivery import Origin as Origin
from ._events._delivery import Outcome as Outcome
from ._events._delivery import Receipt as Receipt
from ._events._delivery import Refusal as Refusal
from ._events._delivery import current_delivery as current_delivery
from ._events._delivery import current_origin as current_origin
from ._events._delivery_settings import DeliveryPolicy as DeliveryPolicy
from ._events._delivery_settings import DeliverySettings as DeliverySettings
from ._events._delivery_settings import SupervisionSettings as SupervisionSettings
from ._events._event import Event as Event
from ._events._event import EventTypes as EventTypes
from ._events._event import MonitoringEvent as MonitoringEvent
from ._events._event import MonitoringPoint as MonitoringPoint
from ._events._event import PluginStatusEvent as PluginStatusEvent
from ._events._event import SendingEvent as SendingEvent
from ._events._event import Timestamp as Timestamp
from ._events._fates import Fate as Fate
from ._events._payloads import encode_event as encode_event
from ._faults._errors import ConfigurationError as ConfigurationError
from ._faults._errors import CriticalPluginError as CriticalPluginError
from ._faults._errors import DeadlockError as DeadlockError
from ._faults._errors import DefinitionError as DefinitionError
from ._faults._errors import EventDecodeError as EventDecodeError
from ._faults._errors import EventEncodeError as EventEncodeError
from ._faults._errors import EventTooLargeError as EventTooLargeError
from ._faults._errors import HandlerTimeoutError as HandlerTimeoutError
from ._faults._errors import ListenerLostError as ListenerLostError
from ._faults._errors import PermanentError as PermanentError
from ._faults._errors import PluginNotActiveError as PluginNotActiveError
from ._faults._errors import RestartRefusedError as RestartRefusedError
from ._faults._errors import RetryAfter as RetryAfter
from ._faults._errors import StartError as StartError
from ._faults._errors import TrivetError as TrivetError
from ._faults._errors import UnknownEventError as UnknownEventError
from ._faults._errors import WrongSettingError as WrongSettingError
from ._http import create_app as create_app
from ._http import listening as listening
from ._inbox._batching import Batch as Batch
from ._inbox._batching import batched as batched
from ._inbox._inbox import Inbox as Inbox
from ._inbox._inbox import InboxStatistics as InboxStatistics
from ._loop._usage import SERVICE as SERVICE
from ._loop._usage import Usage as Usage
from ._on_asyncio._plugin import AsyncioPlugin as AsyncioPlugin
from ._plugins._app import App as App
from ._plugins._plugin import BackgroundPlugin as BackgroundPlugin
from ._plugins._plugin import BatchPlugin as BatchPlugin
from ._plugins._plugin import EventPlugin as EventPlugin
from ._plugins._plugin import EventSendingPlugin as EventSendingPlugin
from ._plugins._plugin import MonitoringPlugin as MonitoringPlugin
from ._plugins._plugin import Plugin as Plugin
from ._plugins._plugin import SourcePlugin as SourcePlugin
from ._plugins._routes import Handler as Handler
from ._plugins._routes import route as route
from ._plugins._routes import websocket_route as websocket_route
from ._plugins._status import Status as Status
from ._plugins._streams import EventStream as EventStream
from ._plugins._streams import ServerSentEvent as ServerSentEvent
from ._program._settings import LogSettings as LogSettings
from ._program._settings import Settings as Settings
from ._program._settings import ShutdownSettings as ShutdownSettings
from ._program._settings import StallSettings as StallSettings
from ._program._settings import StartupSettings as StartupSettings
from ._program._settings import StoreSettings as StoreSettings
from ._program._settings import load_settings as load_settings
from ._runtime import Runtime as Runtime
from ._runtime import open_runtime as open_runtime

__version__ = version("trivet")
