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

"""What the documentation tells people to type, typed."""

import json
import pathlib
import re
import subprocess
import sys
import textwrap

from tests.functional import test_iscsi_qemu
from volumedrivers.testing.guests import CooperatingGuest
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.tgt import IscsiTarget

target = test_iscsi_qemu.target

LIBRARY = pathlib.Path(__file__).parents[2] / 'doc' / 'source' / 'library.rst'


# What is above it needs Cinder: tests/functional/cinder has it.
WITHOUT = 'Volumes without Cinder\n----------------------\n'


def samples(*, cinder: bool = False) -> list[str]:
    """Return the Python code of library.rst.

    :param cinder: that of the section for it, instead of the rest
    """
    section, rest = LIBRARY.read_text().split(WITHOUT)
    found = re.findall(
        r'^\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)',
        section if cinder else rest,
        re.MULTILINE,
    )
    return [textwrap.dedent(block) for block in found]


def test_samples_of_the_library(
    libvirtd: PrivateLibvirtd,
    linux_guest: CooperatingGuest,
    target: IscsiTarget,
    tmp_path: pathlib.Path,
) -> None:
    config = tmp_path / 'volumedrivers.conf'
    config.write_text(
        f'[volumedrivers]\nstate_path = {tmp_path / "state"}\nvirt_type = qemu\n'
        'iscsi_client = qemu\niscsi_initiator_name = iqn.2020-01.test:host\n'
    )
    attachment = {'id': 'attachment-1', 'connection_info': target.connection_info()}
    code = (
        f'attachment = json.loads({json.dumps(attachment)!r})\n'
        # Each goes on where the one before it ends.
        + samples(cinder=True)[0].partition('with Hypervisor')[0]
        + '\n'.join(samples())
        + "print('all of it ran')\n"
    )
    # Only what differs between one host and another.
    for told, here in (
        ("'qemu:///system'", repr(libvirtd.uri)),
        ("'web1'", repr(linux_guest.name)),
        ("conf([], project='volumedrivers')", f"conf(['--config-file', {str(config)!r}])"),
    ):
        assert told in code
        code = code.replace(told, here)
    done = subprocess.run(
        [sys.executable, '-c', f'import json\n{code}'],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith('all of it ran\n'), done.stdout + done.stderr
    assert done.stdout.startswith('vda iscsi:')
    assert 'identify' in done.stdout
    assert linux_guest.guest.disks() == ()
    assert target.sessions() == 0
    assert test_iscsi_qemu.PASSWORD not in done.stdout + done.stderr
