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

"""A host under test, as the tests see it: the VM of the project, or anybody's machine."""

import abc
from collections.abc import Sequence
import typing

from tests.lab.rows import Row
from tests.lab.rpc.client import RpcServer
from tests.lab.rpc.client import Session


class HostError(Exception):
    """The host under test cannot be had or used; says why."""


class Host(abc.ABC):
    """Where the package runs while it is tested; a context manager.

    :ivar name: for the report, such as ``virtual machine (TCG)`` or
        ``root@array-test-3``
    """

    name: str

    @abc.abstractmethod
    def __enter__(self) -> typing.Self: ...

    @abc.abstractmethod
    def __exit__(self, *exc: object) -> None: ...

    @abc.abstractmethod
    def storage(self) -> Session:
        """Return the session of the storage; the same one until power is cut."""

    @abc.abstractmethod
    def benches(self) -> RpcServer:
        """Return where sessions of the bench are opened; the same until power is cut."""

    def nova(self) -> RpcServer:
        """Return where sessions with Nova's LibvirtDriver are opened.

        :raises HostError: there is no Nova on this one
        """
        raise HostError(f'{self.name} has no Nova')

    def rows(self) -> Sequence[Row] | None:
        """Return the rows that can be tried here; None: those of the project.

        May be asked before the host is entered.
        """
        return None

    def session(self, what: str) -> tuple[str, dict[str, typing.Any]]:
        """Return which session is here what a test calls so, and what it needs besides.

        :param what: ``module:Class``, such as the bench's
        """
        return what, {}

    def can(self, what: str) -> str | None:
        """Return None if this may be done to the host and its storage, or why not.

        :param what: ``crash``, ``power cut``, ``set link``, ``restore``, or a fault
            of a back end
        """
        return f'{self.name} does not allow: {what}'

    def power_cut(self, backends: Sequence[str] = ()) -> None:
        """Take the power away and start again; storage and daemons are up after it.

        Every session has ended then; ``storage`` and ``benches`` are new ones.

        :param backends: which storage has to be up again; none named: all
        :raises HostError: it cannot be done to this one
        """
        raise HostError(f'{self.name} has no power that could be cut')

    def set_link(self, name: str, up: bool) -> None:
        """Pull or plug a cable, such as ``fabric_a``.

        :raises HostError: it cannot be done to this one
        """
        raise HostError(f'{self.name} has no link {name} that could be set')

    def restore(self) -> None:
        """Have the host as it was in the beginning, with new sessions.

        :raises HostError: it cannot be done to this one
        """
        raise HostError(f'{self.name} cannot be restored')

    def left_behind(self) -> list[str]:
        """Return what is on the host now and was not in the beginning, or the reverse."""
        return []

    def about(self) -> dict[str, str]:
        """Return the versions of what is tried, by name."""
        return {}

    def take_log(self) -> list[str]:
        """Return what the sessions have logged since this was asked last."""
        return []
