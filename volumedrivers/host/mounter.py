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

"""What mounting and unmounting needs root for, as a type."""

import typing


class Mounter(typing.Protocol):
    """The module volumedrivers.privsep.mount, or what stands for it in a test."""

    def mount(
        self,
        fstype: str,
        source: str,
        mount_point: str,
        options: typing.Sequence[str] = (),
        credentials: typing.Mapping[str, str] | None = None,
        *,
        timeout: float = 60,
    ) -> None: ...

    def unmount(self, mount_point: str, lazy: bool = False, *, timeout: float = 60) -> None: ...

    def make_mount_point(self, path: str) -> None: ...

    def remove_mount_point(self, path: str) -> None: ...
