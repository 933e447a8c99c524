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

"""Keep keys out of what the clients of key managers log.

At DEBUG keystoneauth logs the body of an answer that is text, which is what
Barbican gives for a passphrase.  Nobody knows the value before, so what these
libraries say below INFO is dropped while a key is on its way.  A filter on a
logger sees only what is logged there, so each of their loggers gets it.
"""

from collections.abc import Iterator
import contextlib
import logging
import re
import threading

_LIBRARIES = re.compile(r'(keystoneauth|barbicanclient|castellan|requests|urllib3|hvac)1?(\.|$)')
# Made when they are first logged to.
_LATER = tuple(
    f'keystoneauth.session{part}' for part in ('', '.request', '.response', '.body', '.request-id')
)


class _Dropping(logging.Filter):
    """Drops DEBUG in threads that are asking for a key."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass, or not."""
        return record.levelno >= logging.INFO or not getattr(self.thread, 'asking', 0)


_dropping = _Dropping()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what they log below INFO in this thread within the block."""
    for name in {*logging.root.manager.loggerDict, *_LATER}:
        if _LIBRARIES.match(name):
            logging.getLogger(name).addFilter(_dropping)
    thread = _dropping.thread
    thread.asking = getattr(thread, 'asking', 0) + 1
    try:
        yield
    finally:
        thread.asking -= 1
