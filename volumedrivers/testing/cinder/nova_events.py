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

"""What of the compute API Cinder calls when a volume has grown: os-server-external-events."""

from collections.abc import Callable
from collections.abc import Iterable
import json
import threading
import time
import typing

from volumedrivers.testing.cinder.loopback import LoopbackServer

_PATH = '/v2.1/os-server-external-events'

Event = dict[str, typing.Any]


class FakeNova:
    """Serves it on a port of 127.0.0.1; a context manager.

    :ivar events: those that came, in their order
    :ivar url: without a slash at the end
    """

    def __init__(self, handle: Callable[[Event], int] | None = None, port: int = 0) -> None:
        """Serve from now on.

        :param handle: is given each event, before it is answered, and returns
            its code: 200, 404 for a guest that is not known; None: all are 200
        :param port: 0: one that is free
        """
        self.events: list[Event] = []
        self.handle = handle
        self._came = threading.Condition()
        self._server = LoopbackServer(self._application, port)
        self.url = self._server.url

    @property
    def options(self) -> dict[str, dict[str, str]]:
        """What to give EmbeddedCinder as options, so that it is found."""
        return {'nova': {'auth_type': 'none', 'endpoint': f'{self.url}/v2.1'}}

    def wait(self, count: int = 1, *, seconds: float = 20.0) -> list[Event]:
        """Return the events when there are so many, or the time is over."""
        end = time.monotonic() + seconds
        with self._came:
            while len(self.events) < count:
                left = end - time.monotonic()
                if left <= 0 or not self._came.wait(left):
                    break
            return list(self.events)

    def stop(self) -> None:
        """Serve no more."""
        self._server.stop()

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _application(
        self, environment: dict[str, typing.Any], start_response: Callable[..., typing.Any]
    ) -> Iterable[bytes]:
        length = int(environment.get('CONTENT_LENGTH') or 0)
        body = environment['wsgi.input'].read(length)
        if (environment['REQUEST_METHOD'], environment['PATH_INFO']) != ('POST', _PATH):
            return _answer(start_response, '404 Not Found', {})
        answered = [self._one(event) for event in json.loads(body)['events']]
        codes = {event['code'] for event in answered}
        if codes == {404}:
            return _answer(start_response, '404 Not Found', {})
        status = '200 OK' if codes == {200} else '207 Multi-Status'
        return _answer(start_response, status, {'events': answered})

    def _one(self, event: Event) -> Event:
        code = 200 if self.handle is None else self.handle(event)
        with self._came:
            self.events.append(event)
            self._came.notify_all()
        status = 'completed' if code == 200 else 'failed'
        return {**event, 'status': status, 'code': code}


def _answer(
    start_response: Callable[..., typing.Any], status: str, body: dict[str, typing.Any]
) -> Iterable[bytes]:
    text = json.dumps(body).encode()
    start_response(
        status, [('Content-Type', 'application/json'), ('Content-Length', str(len(text)))]
    )
    return [text]
