"""How long one task goes on before every other task has its turn.

Owns the quanta of publishers, readers and workers.
Never knows what they do; seconds are those of the machine's clock, in tests too, since it is work
that is measured, and not waiting.
"""

QUANTUM = 128
"""Events that one publisher publishes, at most. Python looks for garbage among 700 new objects; two
quanta, with two objects an event, are handled before that."""
CATCH_UP = 384
"""Events that one worker handles, at most: more than two quanta, so that none stay behind."""
SECONDS = 0.001
"""Seconds for which one worker handles events; a longer handler ends the quantum."""
CHECK_EVERY = 16
"""Events between two looks at the clock."""
READ = 64
"""Events that one iterator hands out, at most."""
QUIET = 0.0005
"""Seconds without an event for an idle reader after which a reader has its turn at once, whatever
else its publisher is about."""
