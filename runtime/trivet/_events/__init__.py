"""What happens, and what became of it: events, their envelopes, outcomes and settings.

Never knows plugins, inboxes or the program.
"""
