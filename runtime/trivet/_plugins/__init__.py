"""The classes that an author writes against: plugins, routes, statuses and their settings.

Never knows how a plugin is found, started or stopped.
"""
