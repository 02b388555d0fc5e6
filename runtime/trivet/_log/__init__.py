"""The program's log, which never waits for its reader and never raises.

Never knows what is logged.
"""
