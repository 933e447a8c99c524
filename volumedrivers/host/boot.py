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

"""Which boot of this host it is.

A reboot takes away every session, device, mount and secret that was not meant
to outlive it, so what was written down before it says nothing about the host.
"""


def current() -> str:
    """Return the kernel's id of this boot; every boot has another one.

    :raises OSError: the kernel did not say (there is no /proc)
    """
    with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
        return file.read().strip()
