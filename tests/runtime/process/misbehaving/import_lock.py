"""Waits for a module that a thread never finishes importing."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import trio

from trivet import BackgroundPlugin

begun = threading.Event()


class Endless(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == "endless_module" else None

    def exec_module(self, module: ModuleType) -> None:
        begun.set()
        time.sleep(1000)


class ImportLock(BackgroundPlugin):
    async def run(self) -> None:
        sys.meta_path.append(Endless())
        threading.Thread(
            target=importlib.import_module, args=("endless_module",), daemon=True
        ).start()
        await trio.to_thread.run_sync(begun.wait)
        self.log.info("misbehaving")
        importlib.import_module("endless_module")
