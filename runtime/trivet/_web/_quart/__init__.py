"""Quart's parts: everything inside Quart, quart-trio and Werkzeug that Trivet overrides.

`_inside` is the table of it, which a test compares with the installed versions.

Never knows plugins, nor their handlers.
"""
