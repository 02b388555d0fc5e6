"""What an author writes: plugin classes with their methods, routes and settings.

Never knows how a plugin is found, started or stopped.
"""
