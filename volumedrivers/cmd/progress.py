#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Say what is being done while it is done: one line a step, and the log between them."""

import logging
import time
import typing


class StepHandler(logging.StreamHandler[typing.TextIO]):
    """A log handler that also observes the steps of an operation.

    The name of a step is written when it begins, so that a person sees what
    hangs, and its seconds behind it when it ends.

    :ivar shows_steps: also where the log is not that talkative
    """

    shows_steps = False

    def __init__(self, stream: typing.TextIO) -> None:
        super().__init__(stream)
        self._began: dict[str, float] = {}
        self._open = ''  # the step whose line has no end yet

    def observe(self, operation: str, step: str, moment: str) -> None:
        """Write of a step that begins or ends, where the log is that talkative.

        :param moment: before, after, failed
        """
        if self.level > (logging.WARNING if self.shows_steps else logging.INFO):
            return
        self.acquire()
        try:
            self._observe(f'{operation}: {step}', moment)
            self.flush()
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, on a line of its own."""
        self._end_line()
        super().emit(record)

    def _observe(self, step: str, moment: str) -> None:
        if moment == 'before':
            self._end_line()
            self._began[step] = time.monotonic()
            self.stream.write(f'{step} ...')
            self._open = step
            return
        seconds = time.monotonic() - self._began.pop(step, time.monotonic())
        if self._open != step:
            self._end_line()
            self.stream.write(step)
        self.stream.write(f' {"failed after " if moment == "failed" else ""}{seconds:.2f} s\n')
        self._open = ''

    def _end_line(self) -> None:
        if self._open:
            self.stream.write('\n')
            self._open = ''
