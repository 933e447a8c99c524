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

"""What the documentation tells of the embedded Cinder, run as it is told."""

import pathlib
import re
import subprocess
import sys
import textwrap

PAGE = pathlib.Path(__file__).parents[3] / 'doc/source/embedded_cinder.rst'


def blocks(kind: str) -> list[str]:
    found = re.findall(
        rf'^\.\. code-block:: {kind}\n\n((?: {{3}}.*\n|\n)+)', PAGE.read_text(), re.MULTILINE
    )
    return [textwrap.dedent(block) for block in found]


def test_samples(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'test_samples.py').write_text('\n'.join(blocks('python')))
    said = subprocess.run(
        [
            sys.executable,
            '-m',
            'pytest',
            '-q',
            '--rootdir=.',
            '--basetemp=base',
            'test_samples.py',
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=100,
    )
    assert said.returncode == 0, said.stdout
    assert '2 passed' in said.stdout


def test_clouds_yaml(tmp_path: pathlib.Path) -> None:
    """The file as it is told, with the port that is free here."""
    script = """
import pathlib, sys
import openstack
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
with EmbeddedCinder(pathlib.Path('cinder').absolute(), [IscsiBackend()], serve=True) as cinder:
    told = pathlib.Path('told.yaml').read_text()
    assert 'http://127.0.0.1:8776/v3' in told
    pathlib.Path('clouds.yaml').write_text(told.replace('http://127.0.0.1:8776/v3', cinder.url))
    cloud = openstack.connect(cloud='embedded')
    made = cloud.block_storage.create_volume(name='from afar', size=1)
    inside = cinder.connection.block_storage.find_volume('from afar', ignore_missing=False)
    assert inside.id == made.id
    assert cloud.block_storage.get_volume(made.id).volume_type == 'iscsi'
"""
    (tmp_path / 'told.yaml').write_text(*blocks('yaml'))
    subprocess.run([sys.executable, '-c', script], cwd=tmp_path, check=True, timeout=100)
