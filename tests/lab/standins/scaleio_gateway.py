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

"""Stand-in of the PowerFlex gateway: the REST calls by which a volume is mapped.

    python -m tests.lab.standins.scaleio_gateway

What is spoken is from os-brick's ``connectors/scaleio.py``, and the fields of
the actions from Dell's clients (goscaleio, python-powerflex): HTTPS; a login
with HTTP Basic answers a token, which takes the place of the password in
every other call, or the call is answered with 401.  An unknown path, field or
value is refused, and so is a body that is not said to be JSON.
"""

import base64
import re
import secrets
import ssl
import typing
import urllib.parse

from tests.lab.standins import http_service
from tests.lab.standins import powerflex

NOT_FOUND = 79
ALREADY_MAPPED = 81
NOT_MAPPED = 84
NO_SUCH_CLIENT = 93

_ACTION = re.compile(r'/api/instances/Volume::([0-9a-f]{16})/action/(\w+)/?')
_BY_NAME = '/api/types/Volume/instances/getByName::'
_FIELDS = {
    'addMappedSdc': {'guid', 'sdcId', 'allowMultipleMappings', 'accessMode'},
    'removeMappedSdc': {'guid', 'sdcId', 'allSdcs', 'ignoreScsiInitiators'},
    'setMappedSdcLimits': {'guid', 'sdcId', 'bandwidthLimitInKbps', 'iopsLimit'},
}
_LEAST_IOPS = 11

TOKENS: set[str] = set()


def refused(message: str, code: int = 0, status: int = 500) -> http_service.Refusal:
    """Return an error as the gateway tells it."""
    return http_service.Refusal(
        status, {'message': message, 'httpStatusCode': status, 'errorCode': code}
    )


class Gateway(http_service.Handler):
    """One connection to the gateway."""

    def respond(self, method: str, path: str, body: bytes) -> object:
        user, secret = self._credentials()
        if path == '/api/login':
            self._only(method, 'GET')
            if (user, secret) != (powerflex.USER, powerflex.PASSWORD):
                raise self._unauthorized()
            token = secrets.token_urlsafe(24)
            TOKENS.add(token)
            return token
        if secret not in TOKENS:
            raise self._unauthorized()
        action = _ACTION.fullmatch(path)
        if action is not None:
            self._only(method, 'POST')
            if self.headers.get_content_type() != 'application/json':
                raise refused('Unsupported Media Type', status=415)
            given = http_service.parameters(body, lambda text: refused(text, status=400))
            return self._act(action[1], action[2], given)
        if path.startswith(_BY_NAME):
            self._only(method, 'GET')
            return self._by_name(path.removeprefix(_BY_NAME).rstrip('/'))
        raise refused(f'The resource {path} is not found', status=404)

    def _act(self, scaleio_id: str, name: str, given: dict[str, typing.Any]) -> dict[str, str]:
        if name not in _FIELDS:
            raise refused(f'Volume has no action {name}', status=404)
        unknown = sorted(set(given) - _FIELDS[name])
        if unknown:
            raise refused(f'Unrecognized field "{unknown[0]}"', status=400)
        volume = powerflex.find(scaleio_id)
        if volume is None:
            raise refused('Could not find the volume', NOT_FOUND)
        if given.get('guid', '').lower() != powerflex.SDC_GUID:
            raise refused('Could not find the SDC', NO_SUCH_CLIENT)
        getattr(self, f'_{name}')(*volume, given)
        return {}

    def _addMappedSdc(
        self, volume_id: str, record: dict[str, typing.Any], given: dict[str, typing.Any]
    ) -> None:
        if given.get('allowMultipleMappings', 'FALSE') not in ('TRUE', 'FALSE'):
            raise refused('allowMultipleMappings is neither TRUE nor FALSE', status=400)
        if record['mapped']:
            raise refused('The volume is already mapped to this SDC', ALREADY_MAPPED)
        powerflex.set_mapped(volume_id, True)

    def _removeMappedSdc(
        self, volume_id: str, record: dict[str, typing.Any], given: dict[str, typing.Any]
    ) -> None:
        if not record['mapped']:
            raise refused('The volume is not mapped to this SDC', NOT_MAPPED)
        powerflex.set_mapped(volume_id, False)

    def _setMappedSdcLimits(
        self, volume_id: str, record: dict[str, typing.Any], given: dict[str, typing.Any]
    ) -> None:
        limits = {key: value for key, value in given.items() if key.endswith(('Kbps', 'Limit'))}
        for key, value in limits.items():
            if not re.fullmatch(r'\d+', str(value)):
                raise refused(f'{key} is not a number', status=400)
        bandwidth = int(limits.get('bandwidthLimitInKbps', 0))
        iops = int(limits.get('iopsLimit', 0))
        if bandwidth % 1024:
            raise refused('The bandwidth limit is not a multiple of 1024 KB/s', status=400)
        if iops and iops < _LEAST_IOPS:
            raise refused('The IOPS limit is less than 11', status=400)
        if not record['mapped']:
            raise refused('The volume is not mapped to this SDC', NOT_MAPPED)
        powerflex.VOLUMES.save(volume_id, {**record, 'limits': limits})

    def _by_name(self, name: str) -> str:
        # Clients encode it twice, as the gateway decodes it twice.
        wanted = urllib.parse.unquote(urllib.parse.unquote(name))
        for record in powerflex.VOLUMES.all().values():
            if record['name'] == wanted:
                return str(record['scaleio_id'])
        raise refused('Could not find the volume', NOT_FOUND)

    def _credentials(self) -> tuple[str, str]:
        kind, _, rest = (self.headers.get('Authorization') or '').partition(' ')
        try:
            text = base64.b64decode(rest, validate=True).decode()
        except ValueError:
            text = ''
        user, colon, secret = text.partition(':')
        if kind != 'Basic' or not colon:
            raise self._unauthorized()
        return user, secret

    @staticmethod
    def _unauthorized() -> http_service.Refusal:
        return http_service.Refusal(
            401,
            {'message': 'Unauthorized', 'httpStatusCode': 401, 'errorCode': 0},
            WWW_Authenticate='Basic realm="ScaleIO Gateway"',
        )

    @staticmethod
    def _only(method: str, allowed: str) -> None:
        if method != allowed:
            raise refused('Method Not Allowed', status=405)


def make_server(address: str, port: int, certificate: str, key: str) -> http_service.Server:
    """Return the gateway, listening."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return http_service.Server((address, port), Gateway, context)


def main() -> None:
    make_server(
        powerflex.ADDRESS, powerflex.PORT, str(powerflex.CERTIFICATE), str(powerflex.KEY)
    ).serve_forever()


if __name__ == '__main__':
    main()
