"""Access: who may do what, by tokens.

Never knows HTTP.
"""
