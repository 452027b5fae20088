"""A job of the gate whose process is killed; in a module of its own, as fresh processes import it by name."""

import os
import signal


def run_job(job):
    """As the out-of-memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)
