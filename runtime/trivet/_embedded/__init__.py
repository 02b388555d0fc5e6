"""A program beside a loop of asyncio's, in a thread of its own.

    _thread     the thread, its start and its end
    _crossing   the calls from one loop to the other

Never knows the service around it.
"""
