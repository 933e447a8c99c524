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

"""What Cinder's nvmet target imports as ``nvmet``: the part of that library that it calls.

The library comes with nvmetcli, which is neither on PyPI nor in Debian 12.
The kernel's target is real; this makes the same directories below configfs.
``install`` has to be called before Cinder loads the target.
"""

from collections.abc import Callable
from collections.abc import Iterator
import pathlib
import sys
import types
import typing

from tests.lab.storage.configfs import link
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import remove
from tests.lab.storage.configfs import unlink
from tests.lab.storage.configfs import write
from tests.lab.storage.nvmet_config import ROOT

_Data = dict[str, typing.Any]
_OnError = Callable[[str], None] | None


class CFSNotFound(Exception):
    """There is no such thing in the kernel."""


class Node:
    """A directory of configfs; what is below it is made with it, and removed with it.

    :ivar path: str, as the library has it
    """

    def __init__(self, path: pathlib.Path, mode: str) -> None:
        self.path = str(path)
        if mode == 'create':
            path.mkdir()
        elif mode == 'any':
            path.mkdir(exist_ok=True)
        elif not path.is_dir():
            raise CFSNotFound(f'{path} is not there')

    def get_attr(self, group: str, name: str) -> str | None:
        """Return an attribute, such as path of device."""
        return read(pathlib.Path(self.path, f'{group}_{name}'))

    def set_attr(self, group: str, name: str, value: object) -> None:
        """Write one."""
        write(pathlib.Path(self.path, f'{group}_{name}'), value)

    def delete(self) -> None:
        """Remove it."""
        remove(pathlib.Path(self.path))


class Root(Node):
    """All of nvmet."""

    def __init__(self) -> None:
        super().__init__(ROOT, 'lookup')

    @property
    def subsystems(self) -> Iterator['Subsystem']:
        """Those that there are."""
        for path in pathlib.Path(self.path, 'subsystems').iterdir():
            yield Subsystem(path.name)


class Subsystem(Node):
    """A subsystem, by its NQN."""

    def __init__(self, nqn: str | None = None, mode: str = 'any') -> None:
        if nqn is None:
            raise CFSNotFound('a subsystem needs a name')
        self.nqn = nqn
        super().__init__(ROOT / 'subsystems' / nqn, mode)

    @property
    def namespaces(self) -> Iterator['Namespace']:
        """Those that there are."""
        for path in pathlib.Path(self.path, 'namespaces').iterdir():
            yield Namespace(self, int(path.name))

    @classmethod
    def setup(cls, data: _Data, err_func: _OnError = None) -> None:
        """Make one with its namespaces; ``err_func`` hears of what could not be done."""
        made = Subsystem(data['nqn'])
        with _told(err_func):
            for name, value in data.get('attr', {}).items():
                made.set_attr('attr', name, value)
            for host in data.get('allowed_hosts', []):
                allowed = Host(host)
                link(pathlib.Path(made.path, 'allowed_hosts', host), pathlib.Path(allowed.path))
            for namespace in data.get('namespaces', []):
                Namespace.setup(made, namespace)

    def delete(self) -> None:
        """Remove it with its namespaces."""
        for namespace in list(self.namespaces):
            namespace.delete()
        for entry in list(pathlib.Path(self.path, 'allowed_hosts').iterdir()):
            unlink(entry)
        super().delete()


class Namespace(Node):
    """A namespace of a subsystem."""

    MAX_NSID = 8192

    def __init__(
        self, subsystem: Subsystem, nsid: int | str | None = None, mode: str = 'any'
    ) -> None:
        self.subsystem = subsystem
        self.nsid = int(nsid or 1)
        super().__init__(pathlib.Path(subsystem.path, 'namespaces', str(self.nsid)), mode)

    @classmethod
    def setup(cls, subsystem: Subsystem, data: _Data, err_func: _OnError = None) -> None:
        """Make one, and serve it if the data say so."""
        made = Namespace(subsystem, data['nsid'])
        with _told(err_func):
            for name, value in data.get('device', {}).items():
                made.set_attr('device', name, value)
            if data.get('enable'):
                write(pathlib.Path(made.path, 'enable'), 1)


class Port(Node):
    """Where subsystems are served."""

    def __init__(self, portid: int | str, mode: str = 'any') -> None:
        self.portid = int(portid)
        super().__init__(ROOT / 'ports' / str(portid), mode)

    @property
    def subsystems(self) -> list[str]:
        """The names of those that are served here."""
        return [path.name for path in pathlib.Path(self.path, 'subsystems').iterdir()]

    def add_subsystem(self, nqn: str) -> None:
        """Serve one."""
        link(pathlib.Path(self.path, 'subsystems', nqn), ROOT / 'subsystems' / nqn)

    def remove_subsystem(self, nqn: str) -> None:
        """Serve it no more."""
        unlink(pathlib.Path(self.path, 'subsystems', nqn))

    @classmethod
    def setup(cls, data: _Data, err_func: _OnError = None) -> None:
        """Make one, with what it serves."""
        made = Port(data['portid'])
        with _told(err_func):
            for name, value in data.get('addr', {}).items():
                made.set_attr('addr', name, value)
            for nqn in data.get('subsystems', []):
                made.add_subsystem(nqn)

    def delete(self) -> None:
        """Serve nothing, and remove it."""
        for nqn in self.subsystems:
            self.remove_subsystem(nqn)
        super().delete()


class Host(Node):
    """A host that may connect."""

    def __init__(self, nqn: str, mode: str = 'any') -> None:
        self.nqn = nqn
        super().__init__(ROOT / 'hosts' / nqn, mode)


class Referral(Node):
    """Cinder only asks whether something is one."""


class ANAGroup(Node):
    """Cinder only asks whether something is one."""


class _told:
    """Tells the caller's function of an error, as the library does."""

    def __init__(self, err_func: _OnError) -> None:
        self._err_func = err_func

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError) and self._err_func is not None:
            self._err_func(str(error))
            return True
        return False


def install() -> None:
    """Let ``import nvmet`` find this, unless the library itself is installed."""
    try:
        import nvmet  # noqa: F401
    except ModuleNotFoundError:
        here: typing.Any = types.ModuleType('nvmet')
        for each in (Root, Subsystem, Namespace, Port, Host, Referral, ANAGroup):
            setattr(here, each.__name__, each)
        here.nvme = types.ModuleType('nvmet.nvme')
        here.nvme.CFSNotFound = CFSNotFound
        sys.modules['nvmet'] = here
        sys.modules['nvmet.nvme'] = here.nvme
