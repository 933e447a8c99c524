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

"""Ask a storage endpoint whether it answers its protocol, with a deadline.

QEMU opens a network source while the whole guest stands still, and libvirt
has no timeout for it; an endpoint that accepts a connection and then stays
silent freezes the guest.  So each endpoint has to say something first.
"""

import typing


class ProbeResult(typing.NamedTuple):
    answered: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]   # (endpoint, reason)


class Probe:
    """What the drivers ask about endpoints; tests and adapters replace it."""

    def check(self, protocol: str, endpoints: typing.Sequence[tuple[str, int]], *,
              timeout: float, **options: str) -> ProbeResult:
        """Probe all endpoints at once.

        :param protocol: rbd, iscsi, gluster or nbd: decides what is said
        :param timeout: seconds for all of them together
        :raises EndpointUnreachable: none answered
        """
        raise NotImplementedError
