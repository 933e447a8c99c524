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

"""Debian's stock kernel: its image and those of its modules a virtual machine can use."""

import pathlib
import shutil
import subprocess

from tests.lab.vm import programs
from tests.lab.vm.errors import LabError

PACKAGE = 'linux-image-amd64'

# Below kernel/ in the module tree: hardware that no virtual machine has.
LEFT_OUT = (
    'drivers/accel',
    'drivers/ata',
    'drivers/bluetooth',
    'drivers/comedi',
    'drivers/gpu',
    'drivers/hid',
    'drivers/hwmon',
    'drivers/i2c',
    'drivers/iio',
    'drivers/input',
    'drivers/isdn',
    'drivers/leds',
    'drivers/media',
    'drivers/mfd',
    'drivers/mmc',
    'drivers/mtd',
    'drivers/net/can',
    'drivers/net/wireless',
    'drivers/platform',
    'drivers/power',
    'drivers/staging',
    'drivers/thunderbolt',
    'drivers/usb',
    'drivers/video',
    'net/bluetooth',
    'net/mac80211',
    'net/wireless',
    'sound',
)


class NoKernel(LabError):
    """The package of the kernel is not to be had."""


def candidate() -> tuple[str, str]:
    """Return name and version of the package with the kernel that apt knows of.

    :raises NoKernel
    """
    shown = subprocess.run(
        [programs.find('apt-cache', 'apt'), 'show', '--no-all-versions', PACKAGE],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    ).stdout
    fields = dict(line.split(': ', 1) for line in shown.splitlines() if ': ' in line)
    for dependency in fields.get('Depends', '').split(','):
        name = dependency.split('(')[0].strip()
        if name.startswith('linux-image-'):
            return name, fields['Version']
    raise NoKernel(f'apt knows no {PACKAGE}: run apt-get update; it comes from Debian 12')


def fetch(directory: pathlib.Path) -> str:
    """Put vmlinuz and lib/modules/VERSION into a directory; return the version.

    :raises NoKernel
    :raises programs.ProgramFailed
    """
    package, _ = candidate()
    version = package.removeprefix('linux-image-')
    directory.mkdir(parents=True)
    # apt gives up its rights for a download where it can; not here.
    options = ['-qq', '-o', 'APT::Sandbox::User=root']
    programs.run([programs.find('apt-get', 'apt'), *options, 'download', package], cwd=directory)
    archive = next(directory.glob('*.deb'))
    unwanted = [f'--exclude=./lib/modules/{version}/kernel/{path}' for path in LEFT_OUT]
    # dpkg-deb pipes into tar by itself only for whole packages.
    with subprocess.Popen(
        [programs.find('dpkg-deb', 'dpkg'), '--fsys-tarfile', archive], stdout=subprocess.PIPE
    ) as unpacked:
        programs.run(
            [
                'tar',
                '-x',
                '--no-same-owner',
                *unwanted,
                './lib/modules',
                f'./boot/vmlinuz-{version}',
            ],
            cwd=directory,
            stdin=unpacked.stdout,
        )
    archive.unlink()
    shutil.move(directory / 'boot' / f'vmlinuz-{version}', directory / 'vmlinuz')
    (directory / 'boot').rmdir()
    programs.run([programs.find('depmod', 'kmod'), '-b', directory, version])
    return version
