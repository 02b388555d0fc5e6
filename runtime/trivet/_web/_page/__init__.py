"""The page at `/-/`: its files, the state that it shows, and the stream that keeps it live.

Never knows how a plugin is run; it reads the same accounts as the other documents.
"""
