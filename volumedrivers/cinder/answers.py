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

"""What is in an answer that says no, and why there was none."""

from collections.abc import Iterator
import datetime
import email.utils
import json
import math
import re
import typing

from volumedrivers import secret_names

_LONGEST = 300
_REQUEST_ID = re.compile(r'req-[0-9a-zA-Z-]{8,64}')
# Names of exceptions of urllib3 and requests, which this package does not import.
_NOT_SENT: typing.Final = frozenset(
    (
        'ConnectTimeout',
        'ConnectTimeoutError',
        'ConnectionRefusedError',
        'NameResolutionError',
        'NewConnectionError',
        'gaierror',
    )
)
_WORDS: typing.Final = {
    'ConnectTimeout': 'no connection in time',
    'ConnectTimeoutError': 'no connection in time',
    'ReadTimeout': 'no answer in time',
    'ReadTimeoutError': 'no answer in time',
    'RemoteDisconnected': 'the connection was closed without an answer',
    'IncompleteRead': 'the answer ended in its middle',
    'gaierror': 'the name of the host cannot be resolved',
}


class NotReadable(Exception):
    """An answer that says yes, and nothing else that can be understood."""


def require_readable(method: str, response: typing.Any) -> None:
    """Refuse an answer that is not Cinder's; the SDK makes an empty thing of it.

    :param response: that requests has made
    :raises NotReadable: shows nothing of it
    """
    # Some requests that change something are GETs; 202 and 204 announce no content.
    empty = method != 'GET' or response.status_code in (202, 204)
    if response.status_code >= 300 or (empty and not response.content):
        return
    try:
        found = response.json()
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        # Without the decoder's error, which has all that it could not read.
        raise NotReadable('the answer is not JSON, or ends in its middle') from None


class Answer:
    """An answer that says no.

    :ivar status: of HTTP
    :ivar said: Cinder's name for the error, such as itemNotFound; '' where
        something in front of Cinder has answered
    :ivar reason: one sentence
    """

    def __init__(self, status: int, error: Exception) -> None:
        response = getattr(error, 'response', None)
        self.status = status
        self.headers = getattr(response, 'headers', None) or {}
        self.said, message = _message(response)
        if not message and response is None:
            message = str(getattr(error, 'details', None) or getattr(error, 'message', '') or '')
        if not message or message[:1] in '{[<':
            words = str(getattr(response, 'reason', '') or '')
            message = f'HTTP status {status} {words}'.rstrip()
            if not self.said:
                message += ', not from Cinder itself'
        self.reason = sentence(message)
        if status >= 500:
            found = _REQUEST_ID.fullmatch(str(self.headers.get('x-openstack-request-id') or ''))
            if found:
                self.reason += f' ({found[0]})'

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to ask again; None: nothing is said."""
        value = str(self.headers.get('Retry-After') or '').strip()
        if not value:
            return None
        try:
            seconds = float(value)
        except ValueError:
            try:
                when = email.utils.parsedate_to_datetime(value)
            except ValueError:
                return None
            if when.tzinfo is None:
                when = when.replace(tzinfo=datetime.UTC)
            seconds = (when - datetime.datetime.now(datetime.UTC)).total_seconds()
        return max(0.0, seconds) if math.isfinite(seconds) else None


def sentence(text: str) -> str:
    """Return a text as one line that is not too long, without passwords in URLs."""
    line = secret_names.mask_urls(' '.join(text.split())).rstrip('.')
    return line if len(line) <= _LONGEST else f'{line[:_LONGEST]}...'


def why_none(error: BaseException) -> tuple[str, bool]:
    """Return why there was no answer, and whether the request can have been received."""
    words = ''
    sent = True
    for one in _inside(error):
        name = type(one).__name__
        if type(one).__module__.startswith('keystoneauth1'):
            # Its ConnectTimeout is that of an answer as well.
            continue
        sent = sent and name not in _NOT_SENT
        if name in _WORDS:
            words = _WORDS[name]
        elif isinstance(one, OSError) and one.errno is not None and one.strerror:
            words = one.strerror
    return words or sentence(str(error)), sent


def kinds(error: BaseException) -> frozenset[str]:
    """Return the names of the classes of an error, and of what is inside it."""
    return frozenset(kind.__name__ for one in _inside(error) for kind in type(one).__mro__)


def _inside(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what its libraries wrapped in it, from outside to inside.

    Only what they put there: the context of the innermost one can be an error
    that the caller was handling at the time.
    """
    seen: list[BaseException] = []
    todo: list[object] = [error, error.__cause__ or error.__context__]
    while todo:
        one = todo.pop(0)
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        todo += [*one.args, getattr(one, 'reason', None), one.__cause__]


def _message(response: typing.Any) -> tuple[str, str]:
    """Return what Cinder calls the error, and says of it; '' and '': it is not Cinder's."""
    try:
        found = json.loads(response.content)
    except (AttributeError, ValueError, TypeError, RecursionError):
        return '', ''
    if not isinstance(found, dict) or len(found) != 1:
        return '', ''
    said, content = next(iter(found.items()))
    if not isinstance(content, dict) or not isinstance(content.get('message'), str):
        return '', ''
    return str(said), content['message']
