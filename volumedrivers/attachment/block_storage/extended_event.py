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

"""The event by which Cinder tells the host of a guest that a volume has grown."""

from collections.abc import Mapping
import dataclasses
import uuid

from volumedrivers import exception

NAME = 'volume-extended'


@dataclasses.dataclass(frozen=True)
class ExtendedEvent:
    """What is in it: no size; Cinder has to be asked.

    :ivar guest_uuid: of the guest that has the volume
    """

    guest_uuid: str
    volume_id: str

    @classmethod
    def parse(cls, event: Mapping[str, object]) -> 'ExtendedEvent':
        """Read one event of the compute API's os-server-external-events.

        :param event: ``{'name': 'volume-extended', 'server_uuid': ..., 'tag': ...}``,
            and what else the API adds
        :raises InvalidEvent: it is another one, or says too little
        """
        if not isinstance(event, Mapping):
            raise _wrong('the whole', event, 'a mapping')
        if event.get('name') != NAME:
            raise _wrong('name', event.get('name'), NAME)
        status = event.get('status')
        if status not in (None, 'completed'):
            raise _wrong('status', status, 'completed, or none')
        return cls(
            guest_uuid=_uuid(event, 'server_uuid', 'the UUID of a guest'),
            volume_id=_uuid(event, 'tag', 'the id of a volume'),
        )


def _uuid(event: Mapping[str, object], key: str, expected: str) -> str:
    value = event.get(key)
    if isinstance(value, str):
        try:
            return str(uuid.UUID(value))
        except ValueError:
            pass
    raise _wrong(key, value, expected)


def _wrong(key: str, found: object, expected: str) -> exception.InvalidEvent:
    shown = repr(found) if isinstance(found, str | int) else type(found).__name__
    if found is None:
        shown = 'missing'
    return exception.InvalidEvent(key=key, found=shown[:80], expected=expected)
