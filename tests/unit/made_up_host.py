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

"""A sysfs and a /dev of files and links, for what reads them."""

import os


class MadeUpHost:
    """Block devices below a temporary directory."""

    def __init__(self, root):
        self.root = root
        self.sysfs = root / 'sys'
        self.dev = root / 'dev'
        self.udev = root / 'run/udev'
        for folder in (self.sysfs / 'block', self.sysfs / 'class/nvme', self.dev, self.udev):
            folder.mkdir(parents=True)

    def write(self, path, text):
        file = self.sysfs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            file.write_bytes(text)
        else:
            file.write_text(text)

    def device(self, name, *, size=None, slaves=(), links=(), **attributes):
        """Add a device; attributes are named block/<name>/<a>__<b>=text."""
        (self.dev / name).touch()
        (self.sysfs / 'block' / name).mkdir(parents=True, exist_ok=True)
        if size is not None:
            attributes['size'] = str(size // 512)
        for attribute, text in attributes.items():
            line = f'{text}\n' if isinstance(text, str) else text
            self.write(f'block/{name}/{attribute.replace("__", "/")}', line)
        for slave in slaves:
            (self.sysfs / 'block' / name / 'slaves' / slave).mkdir(parents=True)
            (self.sysfs / 'block' / slave / 'holders' / name).mkdir(parents=True, exist_ok=True)
        for link in links:
            self.link(link, name)
        return str(self.dev / name)

    def link(self, link, name):
        path = self.dev / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(self.dev / name, path.parent))
        return str(path)

    def session(self, number, portal, target, **disks):
        """Add an iSCSI session; disks are named lun1='sdb'."""
        address, _, port = portal.rpartition(':')
        self.write(f'class/iscsi_session/session{number}/targetname', f'{target}\n')
        connection = f'class/iscsi_connection/connection{number}:0'
        self.write(f'{connection}/persistent_address', address.strip('[]') + '\n')
        self.write(f'{connection}/persistent_port', f'{port}\n')
        device = self.sysfs / f'class/iscsi_session/session{number}/device'
        device.mkdir()
        for lun, name in disks.items():
            unit = f'target{number}:0:0/{number}:0:0:{lun.removeprefix("lun")}'
            (device / unit / 'block' / name).mkdir(parents=True)
        return device

    def controller(self, name, nqn, address, *namespaces):
        """Add an NVMe controller and what leads through it."""
        host, _, port = address.rpartition(':')
        self.write(f'class/nvme/{name}/subsysnqn', f'{nqn}\n')
        self.write(f'class/nvme/{name}/address', f'traddr={host},trsvcid={port}\n')
        for namespace in namespaces:
            (self.sysfs / 'class/nvme' / name / namespace).mkdir()

    def logout(self, number):
        (self.sysfs / f'class/iscsi_session/session{number}').rename(
            self.root / f'removed-session{number}'
        )

    def remove(self, name):
        """Take a device away, as the kernel and udev do."""
        for folder, _, entries in os.walk(self.dev):
            for entry in entries:
                path = os.path.join(folder, entry)
                if entry.startswith('os-brick+'):
                    continue
                if os.path.islink(path) and os.path.basename(os.readlink(path)) == name:
                    os.unlink(path)
        (self.dev / name).unlink()
        for unit in self.sysfs.glob(f'class/iscsi_session/*/device/*/*/block/{name}'):
            unit.rmdir()
        for above in self.sysfs.glob(f'block/*/holders/{name}'):
            above.rmdir()
        target = self.sysfs / 'block' / name
        target.rename(self.root / f'removed-{name}')
