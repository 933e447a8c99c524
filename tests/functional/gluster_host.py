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

"""Fixtures: a GlusterFS server, and a libvirtd that sees what is mounted of it.

A test module takes them as its own: ``server = gluster_host.server``.
"""

from collections.abc import Iterator
import pathlib
import subprocess

import pytest

from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlusterServer]:
    with GlusterServer(tmp_path_factory.mktemp('gluster')) as started:
        yield started


@pytest.fixture(scope='module')
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Where shares are mounted: a place that libvirtd's mount namespace sees."""
    directory = tmp_path_factory.mktemp('mnt')
    subprocess.run(['mount', '--bind', str(directory), str(directory)], check=True)
    subprocess.run(['mount', '--make-shared', str(directory)], check=True)
    yield directory
    subprocess.run(['umount', '--lazy', str(directory)], check=True)


@pytest.fixture(scope='module')
def libvirtd(
    mounts: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateLibvirtd]:
    """One that was started after the place for mounts was made."""
    with PrivateLibvirtd(tmp_path_factory.mktemp('libvirtd')) as daemon:
        yield daemon


@pytest.fixture(scope='module')
def hypervisor(libvirtd: PrivateLibvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(libvirtd.uri) as opened:
        yield opened
