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

"""The connection to libvirt: its event loop, reconnects, guests and secrets."""

import typing

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.guest import Guest


class SecretStore:
    """libvirt's secrets; implements driver.Secrets."""

    def ensure(self, usage_type: str, usage_id: str, value: bytes, *,
               ephemeral: bool = True) -> str:
        raise NotImplementedError

    def find(self, usage_type: str, usage_id: str) -> str | None:
        raise NotImplementedError

    def delete(self, usage_type: str, usage_id: str) -> bool:
        raise NotImplementedError


class Hypervisor:
    """One libvirt URI: qemu:///system, qemu:///session, qemu:///embed?root=DIR ...

    Opens on first use, registers the event loop before, reconnects when the
    daemon was restarted.  Close it, or use it as a context manager.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @property
    def secrets(self) -> SecretStore:
        raise NotImplementedError

    def guest(self, name: str) -> 'Guest':
        """Find a domain by name or UUID.

        :raises GuestNotFound: libvirt said there is none
        :raises HypervisorUnavailable: libvirt could not say
        """
        raise NotImplementedError

    def guests(self) -> 'tuple[Guest, ...]':
        """All domains, running or defined."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
