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

"""Block drivers that QEMU loads as modules, which a distribution packages apart."""

import glob
import os

# Debian and Ubuntu, Fedora and RHEL, others.
_DIRECTORIES = ('/usr/lib/*/qemu', '/usr/lib64/qemu-kvm', '/usr/lib64/qemu', '/usr/lib/qemu')
_PACKAGES = {
    '/usr/lib64': 'qemu-kvm-block-{name} (or qemu-block-{name})',
    '/usr/lib': 'qemu-block-extra',
}


def why_no_block_driver(name: str, directories: tuple[str, ...] = _DIRECTORIES) -> str | None:
    """Say why QEMU lacks one of its network block drivers; None: nothing says so.

    A QEMU that is built with modules has all of these drivers as modules; one
    that is built without has no module at all and cannot be judged from here.

    :param name: rbd, iscsi, gluster, ...
    """
    found = [path for pattern in directories for path in glob.glob(f'{pattern}/*.so')]
    if not found or any(os.path.basename(path) == f'block-{name}.so' for path in found):
        return None
    prefix = '/usr/lib64' if found[0].startswith('/usr/lib64/') else '/usr/lib'
    package = _PACKAGES[prefix].format(name=name)
    return f'QEMU has no block-{name}.so; install the package {package}'
