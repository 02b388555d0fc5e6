"""Settings and files, and the checked program that they make.

Never knows how a program runs.
"""
