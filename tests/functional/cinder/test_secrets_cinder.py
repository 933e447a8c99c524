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

"""The passwords that Cinder gives are in nothing that a run writes, prints, logs or starts."""

from collections.abc import Iterator
import contextlib
import logging
import pathlib
import traceback
import typing

import pytest

from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.test_cli_volume import Command
from tests.functional.evidence import Evidence
from tests.functional.evidence import Sampler
from volumedrivers import exception
from volumedrivers.attachment import failure
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder import faults as make
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults
from volumedrivers.testing.libvirtd import PrivateLibvirtd

EXPORT = 'PUT /attachments/*'
COMPLETE = 'POST /attachments/* os-complete'
RELEASE = 'DELETE /attachments/*'
# It runs in this process, and what it logs is its own.
_CINDER = ('cinder', 'oslo_messaging', 'oslo_service', 'oslo_db', 'taskflow', 'sqlalchemy')


class _Records(logging.Handler):
    def __init__(self, evidence: Evidence) -> None:
        super().__init__(logging.DEBUG)
        self.evidence = evidence
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_CINDER):
            return
        self.names.add(record.name)
        self.evidence.add('logs', self.format(record))
        self.evidence.add('logs', repr(record.__dict__))


@pytest.fixture
def evidence() -> Evidence:
    return Evidence()


@pytest.fixture
def records(evidence: Evidence) -> Iterator[_Records]:
    """All that is logged, at every level."""
    handler = _Records(evidence)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(before)
    root.removeHandler(handler)


@pytest.fixture
def passwords(faults: Faults) -> list[str]:
    """Those that Cinder has given."""
    found: list[str] = []

    def note(said: dict[str, typing.Any]) -> None:
        found.append(said['attachment']['connection_info']['auth_password'])

    faults.add(EXPORT, make.changed(note))
    return found


@pytest.fixture
def volume(make_volume: VolumeMaker, iscsi: IscsiBackend) -> MadeVolume:
    return make_volume(iscsi)


def add_error(evidence: Evidence, error: BaseException) -> None:
    place = 'errors'
    evidence.add(place, ''.join(traceback.format_exception(error)))
    while error is not None:
        notes = getattr(error, '__notes__', ())
        told = failure.of(error)
        for text in (str(error), repr(error), repr(error.args), repr(vars(error)), *notes):
            evidence.add(place, text)
        evidence.add(place, repr(told))
        error = error.__cause__  # type: ignore[assignment]


def assert_nowhere(evidence: Evidence, passwords: list[str]) -> None:
    """Check that no password is in the evidence, and that it would have been found."""
    arguments = evidence.seen['cmdline']
    # The target's own program takes it in no other way.
    evidence.seen['cmdline'] = {
        one
        for one in arguments
        if pathlib.PurePath(one.partition(b'\0')[0].decode(errors='replace')).name != 'tgtadm'
    }
    assert passwords
    for password in passwords:
        assert evidence.places_of(password) == {}
        evidence.add('planted', f'before {password} after')
        assert list(evidence.places_of(password)) == ['planted']


def test_no_password_is_seen(
    volume_manager: VolumeManager,
    volume: MadeVolume,
    guest: Guest,
    faults: Faults,
    passwords: list[str],
    evidence: Evidence,
    records: _Records,
    conf: typing.Any,
) -> None:
    state = pathlib.Path(conf.volumedrivers.state_path)

    @contextlib.contextmanager
    def failing() -> Iterator[None]:
        with pytest.raises(exception.VolumeDriversError) as caught:
            yield
        add_error(evidence, caught.value)
        evidence.add_files('files', state)

    def attach() -> None:
        done = volume_manager.attach(guest.name, volume.name, DiskRequest(bus='scsi'))
        evidence.add('results', repr(done))
        evidence.add_files('files', state)

    with Sampler(evidence) as sampler:
        attach()
        faults.add(RELEASE, make.status(409))
        with failing():
            volume_manager.detach(guest.name, volume.id)
        faults.add(COMPLETE, make.reset(), times=8)
        with failing():
            attach()  # Cinder lets it not go yet
        faults.clear()
        volume_manager.recover()
        passwords_before = list(passwords)
        faults.add(COMPLETE, make.status(400))
        faults.add(
            EXPORT,
            make.changed(
                lambda said: (
                    passwords_before.append(
                        said['attachment']['connection_info']['auth_password']
                    ),
                    said['attachment']['connection_info'].pop('target_iqn'),
                )
            ),
            times=1,
        )
        for _ in range(2):
            with failing():
                attach()
        faults.clear()
        evidence.add('listed', repr(volume_manager.list()))
        evidence.add('listed', repr(volume_manager.audit()))
    evidence.add_files('files', state)
    assert sampler.samples
    assert volume.attachments() == []
    assert {'keystoneauth.session', 'volumedrivers.attachment'} & {
        name if not name.startswith('volumedrivers.att') else 'volumedrivers.attachment'
        for name in records.names
    }
    assert any(path.suffix == '.sqlite' or 'journal' in path.name for path in state.iterdir())
    assert len(passwords_before) == 2
    assert_nowhere(evidence, passwords_before)


def test_no_password_is_printed(
    libvirtd: PrivateLibvirtd,
    cinder: EmbeddedCinder,
    volume: MadeVolume,
    guest: Guest,
    faults: Faults,
    passwords: list[str],
    evidence: Evidence,
    tmp_path: pathlib.Path,
) -> None:
    assert cinder.url is not None
    command = Command(libvirtd.uri, cinder.url, tmp_path)
    attach = ('--debug', 'volume', 'attach', guest.name, volume.name, '--bus', 'scsi')
    with Sampler(evidence):
        command.run(*attach)
        command.run('--debug', 'volume', 'show', volume.name, '-f', 'json')
        command.run('--debug', 'show', guest.name, volume.id, '-f', 'json')
        command.run('--debug', 'volume', 'detach', guest.name, volume.name)
        faults.add(COMPLETE, make.status(400))
        command.run(*attach, code=1)
    evidence.add('printed', command.said)
    evidence.add_files('files', tmp_path / 'state')
    assert len(passwords) == 2
    assert 'Traceback' in command.said
    assert_nowhere(evidence, passwords)
