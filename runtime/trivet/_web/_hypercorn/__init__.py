"""The HTTP server: hypercorn's parts, and everything inside hypercorn that Trivet overrides.

`_inside` is the table of it, which a test compares with the installed version.

Never knows what the application answers.
"""
