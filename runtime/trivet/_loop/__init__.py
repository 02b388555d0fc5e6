"""What each plugin does to the event loop: its tasks, its use of the loop, its stalls.

Never knows hosts; a plugin is a name here.
"""
