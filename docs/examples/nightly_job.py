"""A job for cron, systemd or a Kubernetes Job: it ends with a code that says what to do next.

0    the job is done, now or before
75   another process works on it: try again later (EX_TEMPFAIL)
65   nobody can go on with it: look at it, do not try again (EX_DATAERR)
143  SIGTERM came: what was done is saved, the next start goes on from there
"""

import os
import sys
import time

from mainstay import (
    Checkpoint,
    CodeChangedError,
    CorruptCheckpointError,
    PoisonedRunError,
    RunBusyError,
    SourceChangedError,
    checkpointed,
)

NOBODY_CAN_GO_ON = CodeChangedError, CorruptCheckpointError, PoisonedRunError, SourceChangedError


@checkpointed(name="report", key="{day}", every=10, max_crashes=3)  # in $MAINSTAY_STORE
def report(cp: Checkpoint, day: str) -> str:
    """Work through a day, and return what came of it."""
    total = cp.state([0])
    for number in cp.iterate(range(200), key=lambda number: number):
        time.sleep(float(os.environ.get("SECONDS_PER_ITEM", "0.01")))
        total[0] += number
    return f"{day}: {total[0]}"


def main() -> int:
    """Run the job of the day that was given, and return the exit code."""
    try:
        print(report(sys.argv[1]))
    except RunBusyError as error:
        print(error, file=sys.stderr)
        return os.EX_TEMPFAIL
    except NOBODY_CAN_GO_ON as error:
        print(error, file=sys.stderr)
        return os.EX_DATAERR
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
