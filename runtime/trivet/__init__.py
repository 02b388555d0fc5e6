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

from ._app import App as App
from ._asyncio_plugin import AsyncioPlugin as AsyncioPlugin
from ._batching import Batch as Batch
from ._batching import batched as batched
from ._cloudevents import CloudEvent as CloudEvent
from ._cloudevents import CloudEventError as CloudEventError
from ._envelope import Delivery as Delivery
from ._envelope import Envelope as Envelope
from ._envelope import Origin as Origin
from ._envelope import Outcome as Outcome
from ._envelope import Receipt as Receipt
from ._envelope import Refusal as Refusal
from ._envelope import current_delivery as current_delivery
from ._envelope import current_origin as current_origin
from ._errors import ConfigurationError as ConfigurationError
from ._errors import CriticalPluginError as CriticalPluginError
from ._errors import DeadlockError as DeadlockError
from ._errors import DefinitionError as DefinitionError
from ._errors import EventDecodeError as EventDecodeError
from ._errors import EventEncodeError as EventEncodeError
from ._errors import EventTooLargeError as EventTooLargeError
from ._errors import HandlerTimeoutError as HandlerTimeoutError
from ._errors import ListenerLostError as ListenerLostError
from ._errors import PermanentError as PermanentError
from ._errors import PluginNotActiveError as PluginNotActiveError
from ._errors import RestartRefusedError as RestartRefusedError
from ._errors import RetryAfter as RetryAfter
from ._errors import StartError as StartError
from ._errors import TrivetError as TrivetError
from ._errors import UnknownEventError as UnknownEventError
from ._errors import WrongSettingError as WrongSettingError
from ._events import Event as Event
from ._events import EventTypes as EventTypes
from ._events import MonitoringEvent as MonitoringEvent
from ._events import MonitoringPoint as MonitoringPoint
from ._events import PluginStatusEvent as PluginStatusEvent
from ._events import SendingEvent as SendingEvent
from ._events import Timestamp as Timestamp
from ._fates import Fate as Fate
from ._http import create_app as create_app
from ._http import listening as listening
from ._inbox import Inbox as Inbox
from ._inbox import InboxStatistics as InboxStatistics
from ._payloads import encode_event as encode_event
from ._plugin import BackgroundPlugin as BackgroundPlugin
from ._plugin import BatchPlugin as BatchPlugin
from ._plugin import EventPlugin as EventPlugin
from ._plugin import EventSendingPlugin as EventSendingPlugin
from ._plugin import MonitoringPlugin as MonitoringPlugin
from ._plugin import Plugin as Plugin
from ._plugin import SourcePlugin as SourcePlugin
from ._policies import DeliveryPolicy as DeliveryPolicy
from ._policies import DeliverySettings as DeliverySettings
from ._policies import SupervisionSettings as SupervisionSettings
from ._routes import Handler as Handler
from ._routes import route as route
from ._routes import websocket_route as websocket_route
from ._runtime import Runtime as Runtime
from ._runtime import open_runtime as open_runtime
from ._settings import LogSettings as LogSettings
from ._settings import Settings as Settings
from ._settings import ShutdownSettings as ShutdownSettings
from ._settings import StallSettings as StallSettings
from ._settings import StartupSettings as StartupSettings
from ._settings import StoreSettings as StoreSettings
from ._settings import load_settings as load_settings
from ._status import Status as Status
from ._streams import EventStream as EventStream
from ._streams import ServerSentEvent as ServerSentEvent
from ._usage import SERVICE as SERVICE
from ._usage import Usage as Usage

__version__ = version("trivet")
