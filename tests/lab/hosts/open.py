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

"""Choose the host under test."""

from tests.lab.hosts.host import Host


def open_host(description: str | None) -> Host:
    """Return the host that a file describes, not entered yet.

    :param description: path of the file; None: the VM that comes with the project
    """
    if description is None:
        from tests.lab.hosts.virtual import VirtualHost

        return VirtualHost()
    from tests.lab.hosts.described import open_described

    return open_described(description)
