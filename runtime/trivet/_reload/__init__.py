"""The change of a running program: other settings, other code, other plugins.

`_reloader` has the order of a reload, `_changeover` the way from the old instances to the new ones.
"""
