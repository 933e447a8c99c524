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

"""Stand-in of Dell PowerFlex (ScaleIO): a gateway, and the client of this host.

The gateway is a HTTPS server with a certificate of its own; the client's
/dev/scini is a character device of CUSE that answers its ioctls; its block
devices are loop devices that udev names as the vendor's rule does.  /sys/module
has a scini, which is the kernel's own cuse under that name.
"""

import pathlib
import ssl
import typing
import urllib.error
import urllib.request
import zlib

from tests.lab.standins import kernel_module
from tests.lab.standins import powerflex
from tests.lab.standins import program
from tests.lab.standins.daemon import Daemon
from tests.lab.storage import backend
from tests.lab.storage import cinder_info
from tests.lab.storage import image_volume
from tests.lab.storage.server_process import run

# The module's name, in the structure that the kernel knows it by.
_NAME = (b'\0\0\0\0cuse' + bytes(52), b'\0\0\0\0scini' + bytes(51))


class ScaleIOVolume(image_volume.ImageVolume):
    """A volume of the stand-in, mapped to this host by os-brick or by Cinder."""

    def connection_info(self) -> dict[str, typing.Any]:
        """Return what Cinder's PowerFlex driver sends, of today or as it once did."""
        data: dict[str, typing.Any] = {
            'scaleIO_volname': self.record['name'],
            'scaleIO_volume_id': self.record['scaleio_id'],
            'config_group': powerflex.CONFIG_GROUP,
            'failed_over': False,
            'hostIP': powerflex.ADDRESS,
            'serverIP': powerflex.ADDRESS,
            'serverPort': powerflex.PORT,
            'serverUsername': powerflex.USER,
            'verify_certificate': True,
            'certificate_path': str(powerflex.CERTIFICATE),
            'iopsLimit': '5000',
            'bandwidthLimit': '102400',
        }
        if self.record['cinder_maps']:
            data['sdc_guid'] = powerflex.SDC_GUID
        elif self.record['by_name']:
            del data['scaleIO_volume_id']
        return cinder_info.connection_info('scaleio', self.volume_id, data)

    def grow(self, size: int) -> None:
        """Let it grow at the gateway; the host sees it when its client looks again."""
        self.resize_image(size)

    def identity(self) -> str:
        return f'path:/dev/{self._device.names[0]}'

    def seen_by_target(self) -> list[str]:
        """Return the mapping and its limits; of one that Cinder makes who uses it."""
        self.record = powerflex.VOLUMES.load(self.volume_id)
        if self.record['cinder_maps'] or not self.record['mapped']:
            return image_volume.settled(self._device.users)
        limits = [f'{key}={value}' for key, value in self.record['limits'].items()]
        return [' '.join([f'mapped to SDC {powerflex.SDC_GUID}', *limits])]

    def secrets(self) -> list[str]:
        return [powerflex.PASSWORD]

    def withdraw(self) -> None:
        """Unmap it, as an administrator can."""
        powerflex.set_mapped(self.volume_id, False)

    def give_back(self) -> None:
        if self.record['cinder_maps']:
            powerflex.set_mapped(self.volume_id, True)

    def delete(self) -> None:
        if self.volume_id in powerflex.VOLUMES.names():
            powerflex.set_mapped(self.volume_id, False)
            powerflex.VOLUMES.forget(self.volume_id)
        image_volume.remove_image(powerflex.VOLUMES, self.volume_id)

    @property
    def _device(self) -> typing.Any:
        return powerflex.device(self.record, self.volume_id)


class ScaleIOBackend(backend.Backend):
    """Stand-in of a PowerFlex system and of its client."""

    name = 'scaleio'
    faults = ('portal refuses', 'daemon killed')

    def __init__(self) -> None:
        self.gateway = Daemon('scaleio-gateway', 'tests.lab.standins.scaleio_gateway')
        self.client = Daemon('scini', 'tests.lab.standins.scini')

    def up(self) -> None:
        make_certificate()
        powerflex.CONNECTOR_CONF.parent.mkdir(parents=True, exist_ok=True)
        powerflex.CONNECTOR_CONF.write_text(
            f'[{powerflex.CONFIG_GROUP}]\nsan_username = {powerflex.USER}\n'
            f'san_password = {powerflex.PASSWORD}\n'
        )
        powerflex.CONNECTOR_CONF.chmod(0o600)
        program.install(powerflex.DRV_CFG, 'tests.lab.standins.drv_cfg')
        kernel_module.load('scini', 'cuse', (_NAME,))
        self._serve()
        for volume_id, record in powerflex.VOLUMES.all().items():
            if record['mapped']:
                powerflex.device(record, volume_id).appear()

    def is_up(self) -> bool:
        return self.client.is_current() and self.gateway.is_current() and answers()

    def make_volume(
        self, volume_id: str, size: int, *, cinder_maps: bool = False, by_name: bool = False
    ) -> ScaleIOVolume:
        """Make a volume.

        :param cinder_maps: it is mapped to this host before this host hears of
            it, as Cinder does since it knows the GUID of the host's client
        :param by_name: the connection_info has the volume's name only, as those
            that Nova has kept from before Newton
        """
        self._serve()
        image_volume.make_image(powerflex.VOLUMES, volume_id, size)
        record = {
            'name': f'lab {volume_id[:8]}/{zlib.crc32(volume_id.encode()):08x}',
            'scaleio_id': volume_id.replace('-', '')[:16],
            'mapped': False,
            'limits': {},
            'cinder_maps': cinder_maps,
            'by_name': by_name,
        }
        powerflex.VOLUMES.save(volume_id, record)
        if cinder_maps:
            powerflex.set_mapped(volume_id, True)
        return ScaleIOVolume(powerflex.VOLUMES, volume_id)

    def find_volume(self, volume_id: str) -> ScaleIOVolume:
        return ScaleIOVolume(powerflex.VOLUMES, volume_id)

    def break_(self, fault: str, **where: typing.Any) -> None:
        if fault not in self.faults:
            raise backend.Unreachable(f'{self.name} does not know how to {fault}')
        self.gateway.stop()

    def mend(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.client.start(pathlib.Path('/dev/scini').is_char_device)
        self.gateway.start(answers)


def make_certificate() -> None:
    """Make the gateway's key and certificate, unless they are there."""
    if powerflex.CERTIFICATE.exists():
        return
    powerflex.DIRECTORY.mkdir(parents=True, exist_ok=True)
    new = powerflex.CERTIFICATE.with_suffix('.new')
    run(
        *('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'),
        *('-nodes', '-days', '7300'),
        *('-subj', '/CN=PowerFlex gateway (stand-in)'),
        *('-addext', f'subjectAltName=IP:{powerflex.ADDRESS}'),
        *('-keyout', str(powerflex.KEY), '-out', str(new)),
    )
    new.rename(powerflex.CERTIFICATE)


def answers() -> bool:
    """Say whether the gateway answers, which it does to strangers with 401."""
    tls = ssl.create_default_context(cafile=str(powerflex.CERTIFICATE))
    url = f'https://{powerflex.ADDRESS}:{powerflex.PORT}/api/login'
    try:
        with urllib.request.urlopen(url, timeout=10, context=tls):
            return False
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
