"""A program with four durable inboxes, killed with SIGKILL again and again, and held to account.

One life after the other, a child process opens the same store, takes in numbered events, and
handles them (see `life`). It writes down, in a file that outlives it, each event that it offers,
each answer, and the beginning and the end of each handling. The parent kills it at a random moment,
reads on in that file, and holds what it finds against these rules, for each plugin:

* An event that was acknowledged is handled when all is drained and no dead letter is left.
* It is handed out again only after a failure, or after a kill with it in flight: begun, and not
  ended. "Ended" is what the handler writes down with its last statement. The inbox marks the event
  as done when the next one is asked for, with no other task's turn in between, so that there is one
  exception: the event, or the batch, whose end is the very last that a life has written down.
* Of the events with the same key one is in flight at a time, and their first deliveries are in the
  order in which the inbox gave them to the store. Publishers that publish at the same time may be
  overtaken by one another before that.
* A publisher that was not answered repeats the event, with the same id, and it is taken in if it
  was not in the store, and otherwise known. No event is taken in twice, however often it comes.

    python -m tests.runtime.delivery.crash --kills 1000 --seed 1
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import structlog

from trivet._store._dead_letters import DeadLetters
from trivet._store._journal import Journal

from .account import Accounts
from .life import RULES, STORE, Orders, be_born


def kill_again_and_again(directory: Path, kills: int, seed: int) -> Accounts:
    """The lives, the account of each, and a last one that is let to drain and to stop."""
    dice, accounts = random.Random(seed), Accounts(RULES)
    read, store = 0, directory / STORE
    for life in range(kills + 1):
        recent = accounts.all[0].recent
        orders = Orders(
            directory,
            seed=dice.randrange(1 << 30),
            first=accounts.highest + 1,
            unanswered=sorted(accounts.unanswered),
            answered=dice.sample(recent, min(5, len(recent))),
            drains=life == kills,
        )
        status = live_and_die(orders, dice)
        expected = 0 if orders.drains else -signal.SIGKILL
        assert status == expected, f"life {life} ended with {status}"
        with orders.log.open("rb") as file:
            file.seek(read)
            written = file.read()
        read += len(written)
        accounts.read(written, killed=not orders.drains)
        if life % 100 == 99:
            duplicates = sum(account.counts["duplicates"] for account in accounts.all)
            say(f"{life + 1} kills: {accounts.highest + 1} events, {duplicates} duplicates")
    for account in accounts.all:
        account.close()
    assert_nothing_is_left(store)
    return accounts


def live_and_die(orders: Orders, dice: random.Random) -> int:
    """One life from its birth to its end; returns the exit code."""
    orders.log.touch()
    pid, told = be_born(orders)
    try:
        if not orders.drains:
            wait_and_kill(pid, told, dice)
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(told)
    return os.waitstatus_to_exitcode(status)


def wait_and_kill(pid: int, told: int, dice: random.Random) -> None:
    """Kill it 10 to 600 milliseconds after its first answer; now and then while it starts."""
    if dice.random() < 0.05:
        select.select([told], [], [], dice.uniform(0.0, 0.1))
    else:
        answered, _, _ = select.select([told], [], [], 60.0)
        assert answered, "nothing was acknowledged within a minute"
        time.sleep(dice.uniform(0.01, 0.6))
    os.kill(pid, signal.SIGKILL)


def assert_nothing_is_left(store: Path) -> None:
    """No event and no dead letter is in the store any more."""
    with closing(Journal.open(store)) as journal:
        assert journal.counts() == {}, journal.counts()
        assert not journal.orphans()
    with DeadLetters(store) as letters:
        assert letters.list() == []


ROWS = (
    "acknowledged",
    "handled",
    "handled, unanswered lines",
    "duplicates",
    "ended with the kill",
    "failed attempts",
    "unanswered, stored",
    "unanswered, not stored",
    "repeated in a later life",
)


def say(text: str) -> None:
    """Tell who waits for the end."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Kill, and print what has become of the events."""
    parser = argparse.ArgumentParser(description="Kill a program again and again.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    directory = Path(tempfile.mkdtemp(prefix="trivet-crash-"))
    began = time.monotonic()
    try:
        accounts = kill_again_and_again(directory, options.kills, options.seed)
    except BaseException:
        say(f"seed {options.seed}; what it was like is in {directory}")
        raise
    shutil.rmtree(directory)
    say("".join(f"{rules.plugin:>10}" for rules in RULES))
    for row in ROWS:
        say("".join(f"{account.counts[row]:>10}" for account in accounts.all) + f"  {row}")
    say(f"{options.kills} kills, {accounts.replayed} dead letters replayed")
    say(f"{time.monotonic() - began:.1f} seconds")


if __name__ == "__main__":
    main()
