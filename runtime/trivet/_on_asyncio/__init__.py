"""Plugins that run on asyncio, inside a program that runs on Trio.

Never knows the program; only `_plugin` knows plugins.
"""
