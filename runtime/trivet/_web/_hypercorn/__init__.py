"""The HTTP server: hypercorn's parts, and everything of hypercorn's inside that Trivet touches.

Never knows what the application answers.
"""
