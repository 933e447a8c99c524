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

"""Keep the bodies of requests and answers out of what the SDK's libraries log.

At DEBUG keystoneauth logs each body, and that of an attachment has what the
back end wants to know of this host: CHAP and cephx secrets.  What is left is
the lines that say what was asked, and how it ended.  A filter on a logger
sees only what is logged there, so each of their loggers gets it; it looks at
what is logged by threads that are asking Cinder through this package, and at
nothing else of the process.
"""

from collections.abc import Iterator
import contextlib
import logging
import re
import threading

_LIBRARIES = re.compile(r'(keystoneauth1?|openstack)(\.|$)')
# Made when they are first logged to.
_LATER = tuple(
    f'keystoneauth.{part}'
    for part in (
        'session',
        'session.request',
        'session.response',
        'session.body',
        'session.request-id',
        'identity.v3.base',
    )
)
# How keystoneauth writes them, in a line with others and in one of their own.
_REQUEST_BODY = " -d '"
_ANSWER_BODY = 'RESP BODY:'
_HIDDEN = " -d '***'"


class _Bodies(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass, without a body; drop one that is nothing else."""
        if not getattr(self.thread, 'asking', 0):
            return True
        message = record.getMessage()
        if record.name.endswith('session.body') or message.lstrip().startswith(_ANSWER_BODY):
            return False
        if message.lstrip().startswith('{'):
            return False  # a token, as the identity plug-ins write it
        start, found, _ = message.partition(_REQUEST_BODY)
        if found:
            record.msg, record.args = start + _HIDDEN, None
        return True


_bodies = _Bodies()
_known = 0


def _add_filter() -> None:
    global _known  # noqa: PLW0603 - the loggers are the process's
    loggers = logging.root.manager.loggerDict
    if len(loggers) == _known:
        return
    for name in {*tuple(loggers), *_LATER}:
        if _LIBRARIES.match(name):
            logging.getLogger(name).addFilter(_bodies)
    _known = len(loggers)


@contextlib.contextmanager
def without_bodies() -> Iterator[None]:
    """Hide them in what is logged in this thread within the block."""
    _add_filter()
    thread = _bodies.thread
    thread.asking = getattr(thread, 'asking', 0) + 1
    try:
        yield
    finally:
        thread.asking -= 1
