"""From settings and files to a checked program.

Never knows how a program runs.
"""
