"""How a plugin runs on asyncio, inside a program that runs on Trio.

Never knows the program; `_bridge` and below never know plugins.
"""
