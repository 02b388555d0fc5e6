"""Events on disk: one SQLite file for all durable inboxes.

Never knows inboxes, nor how an event reaches a plugin.
"""
