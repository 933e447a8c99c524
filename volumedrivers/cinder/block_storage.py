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
import time
import typing

from volumedrivers import exception
from volumedrivers.cinder import errors

if typing.TYPE_CHECKING:
    import openstack.connection

_Answer = typing.TypeVar('_Answer')
_Arguments = typing.ParamSpec('_Arguments')


class BlockStorage:
    """One Cinder, as one user in one project sees it; shared by threads.

    ``proxy`` is the SDK's, and has all the calls; they go through ``ask`` or
    ``tell``, for example ``storage.ask(storage.proxy.get_volume, volume_id)``.

    :ivar connection: the SDK's
    :ivar retries: how often what may be asked again is asked again
    :ivar pause: seconds before the first time; doubled each time
    """

    def __init__(
        self,
        connection: 'openstack.connection.Connection',
        *,
        retries: int = 3,
        pause: float = 0.5,
    ) -> None:
        self.connection = connection
        self.retries = retries
        self.pause = pause

    @property
    def proxy(self) -> typing.Any:
        """The SDK's ``block_storage``.

        :raises CinderNotConfigured, CinderUnavailable
        """
        return self._translated('find block storage', lambda: self.connection.block_storage)

    @property
    def endpoint(self) -> str:
        """Where Cinder is; told to people, and recorded to know it again.

        :raises CinderNotConfigured, CinderUnavailable
        """
        proxy = self.proxy
        return str(self._translated('find block storage', proxy.get_endpoint)).rstrip('/')

    def ask(
        self,
        call: Callable[_Arguments, _Answer],
        /,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Answer:
        """Call what may be called twice; again if Cinder does not answer.

        :raises CinderUnavailable: not once in ``retries`` times more
        :raises NotInCinder, CinderForbidden, CinderError, CinderTooOld
        """
        pause = self.pause
        for again in range(self.retries, -1, -1):
            try:
                return self.tell(call, *args, **kwargs)
            except exception.CinderUnavailable:
                if not again:
                    raise
            time.sleep(pause)
            pause *= 2
        raise AssertionError('not reached')

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
        action = getattr(call, '__name__', 'something').replace('_', ' ')
        return self._translated(action, lambda: call(*args, **kwargs))

    def _translated(self, action: str, call: Callable[[], _Answer]) -> _Answer:
        try:
            return call()
        except exception.VolumeDriversError:
            raise
        except Exception as error:
            raise errors.translate(error, action, self._name()) from error

    def _name(self) -> str:
        config = getattr(self.connection, 'config', None)
        return str(getattr(config, 'name', '') or 'the configured cloud')
