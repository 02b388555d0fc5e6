"""How an event reaches a plugin: publish → bus → one inbox per subscriber.

Never knows how a plugin lives, nor what HTTP sees.
"""
