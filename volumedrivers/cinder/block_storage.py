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

"""Ask Cinder through the SDK's proxy: what may be asked again is, errors are ours."""

from collections.abc import Callable
import threading
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.cinder import endpoints
from volumedrivers.cinder import errors
from volumedrivers.cinder import http_logs
from volumedrivers.cinder import negotiation

if typing.TYPE_CHECKING:
    import openstack.connection

LOG = logging.getLogger(__name__)

_Answer = typing.TypeVar('_Answer')
_Arguments = typing.ParamSpec('_Arguments')

_DISCOVERY = 'version discovery'


class BlockStorage:
    """One Cinder, as one user in one project sees it; shared by threads.

    ``proxy`` is the SDK's, and has all the calls; they go through ``ask`` or
    ``tell``, for example ``storage.ask(storage.proxy.get_volume, volume_id)``.

    :ivar connection: the SDK's
    :ivar retries: how often what may be asked again is asked again
    :ivar pause: seconds before the first time; doubled each time
    :ivar timeout: seconds after which nothing is asked again
    :ivar source: where it is configured, as errors call it
    """

    def __init__(
        self,
        connection: 'openstack.connection.Connection',
        *,
        retries: int = 3,
        pause: float = 0.5,
        timeout: float = 120.0,
        source: str = '',
    ) -> None:
        """Ask nothing yet.

        :param connection: it is not changed; where its session has no timeout, finding
            Cinder has no deadline, and all else ends after ``timeout`` seconds
        """
        self.connection = connection
        self.retries = retries
        self.pause = pause
        self.timeout = timeout
        self.source = source
        self._opening = threading.Lock()
        self._proxy: typing.Any = None
        self._endpoint: str | None = None
        self._speaks: tuple[int, int] | None = None

    @property
    def proxy(self) -> typing.Any:
        """The SDK's ``block_storage``, in one microversion; it repeats nothing by itself.

        Where Cinder is, and what it speaks, is asked the first time.

        :raises CinderNotConfigured, CinderUnavailable, CinderTooOld
        """
        if self._proxy is None:
            with self._opening:
                if self._proxy is None:
                    self._proxy = self._asked(_DISCOVERY, self._open)
        return self._proxy

    @property
    def endpoint(self) -> str:
        """Where Cinder is; told to people, and recorded to know it again.

        The same for every user, project and version.

        :raises CinderNotConfigured, CinderUnavailable, CinderTooOld
        """
        if self._endpoint is None:
            proxy = self.proxy
            if self._endpoint is None:
                found = self._translated(_DISCOVERY, proxy.get_endpoint)
                self._endpoint = endpoints.identity(str(found))
        return self._endpoint

    @property
    def project(self) -> str | None:
        """Id of the project whose volumes are asked for; None: the user names none.

        :raises CinderNotConfigured, CinderUnavailable
        """
        session = getattr(self.connection, 'session', None)
        if session is None:
            return None
        found: str | None = self._asked('ask for the project', session.get_project_id)
        return found

    @property
    def sends_service_token(self) -> bool:
        """Whether requests show that they come from a service, not from a user alone."""
        from keystoneauth1 import service_token  # noqa: PLC0415

        session = getattr(self.connection, 'session', None)
        return isinstance(getattr(session, 'auth', None), service_token.ServiceTokenAuthWrapper)

    def speaks(self, microversion: str) -> bool:
        """Tell whether Cinder speaks a microversion, such as '3.44'.

        :raises CinderNotConfigured, CinderUnavailable, CinderTooOld
        """
        if self._speaks is None:
            self.proxy  # noqa: B018 - asks
        return self._speaks is None or self._speaks >= negotiation.version(microversion)

    def require(self, microversion: str, what: str) -> None:
        """Refuse a Cinder that does not speak a microversion; asks no more than once.

        :param what: needs it, such as "a read-only attachment"
        :raises CinderTooOld
        :raises CinderNotConfigured, CinderUnavailable
        """
        if not self.speaks(microversion):
            most = negotiation.text(self._speaks or (3, 0))
            raise exception.CinderTooOld(
                endpoint=self.endpoint, found=f'up to {most}', needed=microversion, what=what
            )

    def ask(
        self,
        call: Callable[_Arguments, _Answer],
        /,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Answer:
        """Call what may be called twice; again if Cinder does not answer.

        Where Cinder says when it wants to be asked again, not before that; and
        not at all if that, or the next pause, ends after ``timeout`` seconds.

        :raises CinderUnavailable: not once in ``retries`` times more
        :raises NotInCinder, CinderForbidden, CinderError, CinderTooOld
        """
        return self._asked(_name(call), lambda: call(*args, **kwargs))

    def tell(
        self,
        call: Callable[_Arguments, _Answer],
        /,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Answer:
        """Call once.

        :raises CinderUnavailable: ``may_be_done`` says whether it may be done
        :raises NotInCinder, CinderForbidden, CinderError, CinderTooOld
        """
        return self._translated(_name(call), lambda: call(*args, **kwargs))

    def _asked(self, action: str, call: Callable[[], _Answer]) -> _Answer:
        end = time.monotonic() + self.timeout
        pause = self.pause
        for left in range(self.retries, -1, -1):
            try:
                return self._translated(action, call)
            except exception.CinderUnavailable as error:
                wait = max(pause, errors.retry_after(error.__cause__) or 0.0)
                if not left or time.monotonic() + wait > end:
                    raise
                LOG.info('%s; asking again in %.1f s, up to %d times more', error, wait, left)
            time.sleep(wait)
            pause *= 2
        raise AssertionError('not reached')

    def _translated(self, action: str, call: Callable[[], _Answer]) -> _Answer:
        try:
            with http_logs.without_bodies():
                return call()
        except exception.VolumeDriversError:
            raise
        except ValueError as error:
            # One of a decoder has all that it could not read.
            raise self._error(error, action) from None
        except Exception as error:
            raise self._error(error, action) from error

    def _error(self, error: Exception, action: str) -> exception.VolumeDriversError:
        return errors.translate(error, action, self._place, source=self.source)

    @property
    def _place(self) -> str:
        """What is known of the endpoint without asking anybody."""
        config = getattr(self.connection, 'config', None)
        url = None if config is None else config.get_endpoint('block-storage')
        if self._endpoint is None and url:
            return endpoints.identity(str(url))
        return self._endpoint or 'its URL of the catalog'

    def _open(self) -> typing.Any:
        found, self._speaks = negotiation.open_proxy(
            self.connection, self._place, self.source, self.timeout
        )
        return found


def _name(call: object) -> str:
    name = str(getattr(call, '__name__', ''))
    return 'something' if name in ('', '<lambda>') else name.strip('_').replace('_', ' ')
