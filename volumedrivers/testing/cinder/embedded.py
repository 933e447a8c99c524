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

"""A real Cinder in this process, for tests and the demonstration.

API, scheduler and a volume manager for each back end; SQLite, no
authentication, messages in memory, native threads.  It takes the optional
extra ``cinder``, which nothing else of this package needs; importing this
module loads none of it.
"""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import pathlib
import shutil
import threading
import typing

from volumedrivers import exception
from volumedrivers.testing.cinder import loopback
from volumedrivers.testing.cinder import preload
from volumedrivers.testing.cinder import settings
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.backends import searched

if typing.TYPE_CHECKING:
    import openstack.connection

    from volumedrivers.testing.cinder.loopback import Application

#: what is put in front of Cinder's application, for example to make it fail
Wrapper = Callable[['Application'], 'Application']

_NOWHERE = 'http://cinder.invalid'
_MICROVERSION = '3.71'
# Cinder's configuration, policy and database are the process's.
_place = threading.Lock()
_running: 'list[EmbeddedCinder]' = []


class EmbeddedCinder:
    """API, scheduler and volume managers of Cinder; a context manager.

    Any number one after another in a process, one at a time; one that was
    stopped can be started again, with the volumes it had.

    :ivar backends: where the volumes are
    :ivar volume_types: names of the types, one for each back end; the first
        is that of a volume that asks for none
    :ivar url: ``http://127.0.0.1:<port>/v3`` where it is served; else None
    :ivar connection: an SDK's connection that calls it without a socket
    :ivar is_service: whether everybody has the role service, as at first; else
        only who sends a service token
    """

    connection: 'openstack.connection.Connection'

    def __init__(
        self,
        directory: pathlib.Path,
        backends: Sequence[Backend] | None = None,
        *,
        serve: bool = False,
        port: int = 0,
        wrap: Wrapper | None = None,
        options: settings.Sections | None = None,
        gives_way: bool = False,
    ) -> None:
        """Prepare; ``start`` starts it.

        :param directory: configuration, database, log and volumes; one that
            was used before is gone on with, without what was exported
        :param backends: default: NFS and iSCSI
        :param serve: also on a loopback port, for other processes
        :param port: which; 0: one that is free
        :param wrap: stands in front of Cinder for every request
        :param options: more for cinder.conf, by section
        :param gives_way: it is stopped when another one is started in this
            process, so that many tests can share one, and some have their own
        """
        self.directory = directory.absolute()
        self.backends = tuple(backends) if backends is not None else (NfsBackend(), IscsiBackend())
        self.volume_types = tuple(backend.name for backend in self.backends)
        self.url: str | None = None
        self._serve = serve
        self._port = port
        self._wrap = wrap
        self._options = options or {}
        self._gives_way = gives_way
        self.is_service = True
        self._stack = contextlib.ExitStack()

    @property
    def log(self) -> pathlib.Path:
        """What Cinder has to say."""
        return self.directory / 'cinder.log'

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor has given way."""
        return self in _running

    def start(self) -> None:
        """Start it; volumes can be created when it returns.

        :raises ToolMissing: Cinder or a program of a back end is not installed
        :raises Busy: there is one in this process, and it does not give way
        """
        preload.load()
        self._take_place()
        with contextlib.ExitStack() as stack:
            stack.callback(_running.remove, self)
            self._start(stack)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """Stop it; may be called again.  The directory stays."""
        self.url = None
        self._stack.close()

    def _take_place(self) -> None:
        with _place:
            for other in tuple(_running):
                if not other._gives_way or other is self:
                    raise exception.Busy(what='Cinder', reason='one runs in this process already')
                other.stop()
            _running.append(self)

    def _start(self, stack: contextlib.ExitStack) -> None:
        from volumedrivers.testing.cinder import services  # noqa: PLC0415 - all of Cinder
        from volumedrivers.testing.cinder import transport  # noqa: PLC0415

        (self.directory / 'locks').mkdir(parents=True, exist_ok=True)
        made = {}
        for backend in self.backends:
            stack.callback(backend.remove)
            made[backend.name] = backend.prepare(self.directory)
        found = settings.sections(self.directory, services.etc(), made)
        for section, options in self._options.items():
            found.setdefault(section, {}).update(options)
        (self.directory / 'cinder.conf').write_text(settings.text(found))
        # Found beside the configuration; the option for it is deprecated.
        shutil.copy(services.etc() / settings.PASTE, self.directory)
        started = services.Services(self.directory, self.volume_types)
        stack.callback(started.stop)
        with searched(self.backends):
            started.start()
        application = _with_identity(started.application, lambda: self.is_service)
        if self._wrap is not None:
            application = self._wrap(application)
        self.connection = _connect(transport.WsgiAdapter(application))
        stack.callback(self.connection.close)
        if self._serve:
            served = loopback.LoopbackServer(application, self._port)
            stack.callback(served.stop)
            self.url = f'{served.url}/v3'

    def __enter__(self) -> typing.Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _with_identity(application: 'Application', is_service: Callable[[], bool]) -> 'Application':
    """Give requests the identity that authentication would have given them.

    Without a token Cinder answers 204 and nothing, also where the SDK asks
    for versions, which it does without one.  An SDK without authentication
    sends a word that Cinder takes for a project; all are to be in the same.
    And only a service may take away an attachment of an instance (bug 2004555);
    without being told so, it is one that sends a service token.
    """

    def call(environment: dict[str, typing.Any], start_response: typing.Any) -> typing.Any:
        if environment.get('HTTP_X_AUTH_TOKEN') in (None, '', 'notused'):
            environment['HTTP_X_AUTH_TOKEN'] = settings.TOKEN
        if is_service() or environment.get('HTTP_X_SERVICE_TOKEN'):
            environment.setdefault('HTTP_X_SERVICE_ROLES', 'service')
        return application(environment, start_response)

    return call


def _connect(adapter: object) -> 'openstack.connection.Connection':
    from keystoneauth1 import session  # noqa: PLC0415
    from keystoneauth1 import token_endpoint  # noqa: PLC0415
    from openstack import connection  # noqa: PLC0415

    endpoint = f'{_NOWHERE}/v3'
    auth = token_endpoint.Token(endpoint=endpoint, token=settings.TOKEN)
    through = session.Session(auth=auth)
    through.session.mount(_NOWHERE, adapter)
    return connection.Connection(
        session=through,
        block_storage_api_version='3',
        block_storage_endpoint_override=endpoint,
        block_storage_default_microversion=_MICROVERSION,
    )
