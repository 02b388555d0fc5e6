"""How a plugin lives, fails, is restarted and stops.

Never knows how events travel, nor what HTTP sees.
"""
