# SPDX-License-Identifier: Apache-2.0
"""Programs that are kept alive and asked, a line at a time: what compare.py and sitting.py share."""
import json
import queue
import signal
import subprocess
import threading

from common import SideError


class Server:
    """A process that first writes a line of JSON to say that it is ready, then one for each line that it reads."""

    def __init__(self, command, log, environment=None):
        """`log` is the file for what it writes to stderr. Raises SideError."""
        self.log = log
        try:
            with log.open("w") as stderr:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
                )
        except OSError as error:
            raise SideError(str(error)) from None
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def answer(self, limit):
        """What it says next, within so many seconds."""
        try:
            line = self.lines.get(timeout=max(limit, 0.1))
        except queue.Empty:
            self.end()
            raise SideError(f"no answer within {limit:.0f} s") from None
        if not line:
            raise SideError(self._ending())
        try:
            return json.loads(line)
        except ValueError:
            raise SideError(f"it says no JSON: {line.strip()[:100]}") from None

    def _ending(self):
        """Why it wrote nothing more. A program that a signal ends says nothing, and what it said before is no reason."""
        status = self.process.wait()
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        return (self.log.read_text().strip().splitlines() or [f"ended with status {status}"])[-1]

    def ask(self, request, limit):
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        except OSError:
            raise SideError("its process has ended") from None
        return self.answer(limit)

    @property
    def pid(self):
        if self.process.poll() is not None:
            raise SideError("its process has ended")
        return self.process.pid

    def end(self):
        self.process.kill()
        self.process.wait()
