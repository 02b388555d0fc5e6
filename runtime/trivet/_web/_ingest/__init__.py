"""Events that come by HTTP, answered without Quart.

Never knows plugin routes.
"""
