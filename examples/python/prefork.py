"""Workers that are forked from a parent which has loaded everything, as gunicorn and uWSGI make them with preloading.

A lock manager belongs to the process that made it: in a forked child every request of a parent's manager is `Forked`. So each
process makes its own, when it first needs one. Locks of such a manager are for the threads and tasks of that process; what
excludes other processes, too, is `keylatch serve`, see `keylatch.remote`.

    python examples/python/prefork.py
"""

from __future__ import annotations

import functools
import os
import sys

from keylatch import Forked, LockManager


@functools.cache
def locks() -> LockManager:
    """Return the manager of this process."""
    return LockManager()


# Without this a child whose parent has used its manager would find that one.
os.register_at_fork(after_in_child=locks.cache_clear)


def work() -> None:
    """What a worker does with each request."""
    with locks().lock("cat.jpg", owner=f"worker {os.getpid()}", timeout=5) as guard:
        print(f"{guard.owner} has {guard.key!r}", flush=True)


def main() -> int:
    """Fork two workers, and wait for them."""
    of_parent = locks()
    with of_parent.lock("cat.jpg", owner="parent"):
        for _ in range(2):
            child = os.fork()
            if child == 0:
                try:
                    of_parent.lock("dog.jpg")
                except Forked as error:
                    print(error, flush=True)
                work()
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status != 0:
                return os.waitstatus_to_exitcode(status)
    return 0


if __name__ == "__main__":
    sys.exit(main())
