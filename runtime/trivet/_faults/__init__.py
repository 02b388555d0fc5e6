"""What can go wrong, and how it is told: errors, stacks, advice, masked secrets.

Never knows events, plugins or the program.
"""
