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

"""Keep the secrets of a connection out of what os-brick and its tools log.

At DEBUG os-brick logs the properties it is called with; it masks the names
that oslo.utils knows, and a vendor's key or an export with a password in it
are none of them.  A filter on a logger sees only what is logged there, not
what its children log, so each logger of those libraries gets it.
"""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import logging
import re
import threading

from volumedrivers.host import brick_errors

_LIBRARIES = re.compile(r'(os_brick|oslo_concurrency|oslo[._]privsep)(\.|$)')


class _Hiding(logging.Filter):
    """Hides the secrets of the calls that are running, of whichever thread.

    os-brick logs in threads of its own too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._running: collections.Counter[str] = collections.Counter()
        self._secrets: tuple[str, ...] = ()

    def add(self, secrets: Sequence[str]) -> None:
        with self._lock:
            self._running.update(secrets)
            self._secrets = tuple(self._running)

    def remove(self, secrets: Sequence[str]) -> None:
        with self._lock:
            self._running.subtract(secrets)
            self._running = +self._running
            self._secrets = tuple(self._running)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass, without the secrets."""
        secrets = self._secrets
        if secrets:
            message = record.getMessage()
            hidden = brick_errors.replace(message, secrets)
            if hidden != message:
                record.msg, record.args = hidden, None
            if record.exc_info and not record.exc_text:
                # Formatters take the text that is there already.
                text = logging.Formatter().formatException(record.exc_info)
                record.exc_text = brick_errors.replace(text, secrets)
        return True


_hiding = _Hiding()


@contextlib.contextmanager
def without(secrets: Sequence[str]) -> Iterator[None]:
    """Hide these values in what os-brick logs within the block.

    Call it when the connector is made, so that its module has a logger.
    """
    for name in tuple(logging.root.manager.loggerDict):
        if _LIBRARIES.match(name):
            logging.getLogger(name).addFilter(_hiding)
    _hiding.add(secrets)
    try:
        yield
    finally:
        _hiding.remove(secrets)
