"""How a serving process starts, is watched and ends.

Never knows the command line that asked for it.
"""
