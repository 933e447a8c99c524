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

"""A Cinder that cannot be asked, in the place of one that is not configured."""

import typing

from volumedrivers.cinder.block_storage import BlockStorage

if typing.TYPE_CHECKING:
    from volumedrivers import exception


class NoBlockStorage(BlockStorage):
    """Answers everything with why there is none: what is recorded of it is told all the same."""

    def __init__(self, error: 'exception.CinderNotConfigured') -> None:
        super().__init__(typing.cast(typing.Any, None), retries=0)
        self._why = error

    @property
    def proxy(self) -> typing.Any:
        """There is none.

        :raises CinderNotConfigured
        """
        raise self._again()

    @property
    def endpoint(self) -> str:
        """There is none.

        :raises CinderNotConfigured
        """
        raise self._again()

    def _again(self) -> 'exception.CinderNotConfigured':
        return type(self._why)(reason=self._why.reason)
