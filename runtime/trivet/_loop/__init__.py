"""The event loop, plugin by plugin: tasks, use of the loop, stalls.

Never knows hosts; a plugin is a name here.
"""
