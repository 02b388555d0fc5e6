"""Faults, and how they are reported: errors, stacks, advice, masked secrets.

Never knows events, plugins or the program.
"""
