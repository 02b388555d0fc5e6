"""Events: their types and payloads, envelopes, fates, outcomes and delivery settings.

Never knows plugins, inboxes or the program.
"""
