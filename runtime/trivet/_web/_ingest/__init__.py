"""Ingest: events that are published by HTTP, on the fast path.

Never knows plugin routes.
"""
