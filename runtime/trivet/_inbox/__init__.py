"""How a plugin reads its events: one by one or in batches, by workers.

Never knows how an inbox keeps its events.
"""
