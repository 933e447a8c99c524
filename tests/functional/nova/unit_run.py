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

"""Run unit tests of Nova's in this process and write what became of each.

``python -m tests.functional.nova.unit_run [options] FILE TEST...``
writes JSON; a test is a module, a class or a method, as unittest names it.
"""

import argparse
import collections
from collections.abc import Iterator
import dataclasses
import importlib
import json
import pathlib
import re
import tempfile
import typing
import unittest

from nova import monkey_patch

# As Nova's own tests do before anything else; native threads.
monkey_patch.patch(backend='threading')

import nova.conf  # noqa: E402
from nova.tests import unit  # noqa: E402, F401 - all objects, before a test's module
from nova.virt.libvirt import driver as libvirt_driver  # noqa: E402
from oslo_utils import importutils  # noqa: E402

_LAST = 1500
_NVME = {'target_port': 4420, 'transport_type': 'tcp'}
_DATA: dict[str, dict[str, object]] = {
    'iscsi': {'target_portal': '192.0.2.1:3260', 'target_iqn': 'iqn.2020-01.a:b', 'target_lun': 1},
    'fibre_channel': {'target_wwn': '50014380deadbeef', 'target_lun': 1},
    'lightos': {
        'lightos_nodes': {
            'a': {'target_portal': '192.0.2.1', 'target_port': 4420, 'transport_type': 'tcp'}
        },
        'subsysnqn': 'nqn.2020-01.a:b',
        'uuid': '6a0d2d2c-0000-4000-8000-000000000001',
    },
    'nvmeof': {
        'target_nqn': 'nqn.2020-01.a:b',
        'vol_uuid': '6a0d2d2c-0000-4000-8000-000000000001',
        'portals': [('192.0.2.1', 4420, 'tcp')],
    },
    'scaleio': {
        'scaleIO_volname': 'v',
        'scaleIO_volume_id': '1',
        'hostIP': '192.0.2.2',
        'serverIP': '192.0.2.1',
        'serverPort': 443,
        'serverUsername': 'u',
        'serverPassword': 'p',
        'serverToken': None,
        'iopsLimit': None,
        'bandwidthLimit': None,
    },
}
#: what was in Nova's table
NOVAS = dict(libvirt_driver.VOLUME_DRIVERS)


class WatchedTable(dict[str, str]):
    """Nova's table of volume drivers; notes which test has looked into it."""

    def __init__(self, table: typing.Mapping[str, str]) -> None:
        super().__init__(table)
        self.test = ''
        self.readers: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.readers.add(self.test)
        return super().__contains__(name)

    def get(self, name: str, default: typing.Any = None) -> typing.Any:
        self.readers.add(self.test)
        return super().get(name, default)


class Outcomes(unittest.TestResult):
    """What became of each test, by its id: a word, and why."""

    def __init__(self, table: WatchedTable) -> None:
        super().__init__()
        self.found: dict[str, tuple[str, str]] = {}
        self._table = table

    def startTest(self, test: unittest.TestCase) -> None:
        self._table.test = test.id()

    def addSuccess(self, test: unittest.TestCase, details: object = None) -> None:
        self._note(test, 'passed')

    def addError(self, test: typing.Any, err: typing.Any = None, details: object = None) -> None:
        self._note(test, 'failed', err, details)

    def addFailure(self, test: typing.Any, err: typing.Any = None, details: object = None) -> None:
        self._note(test, 'failed', err, details)

    def addSkip(self, test: typing.Any, reason: str | None = None, details: object = None) -> None:
        self._note(test, 'skipped', reason, details)

    def addExpectedFailure(
        self, test: unittest.TestCase, err: object = None, details: object = None
    ) -> None:
        self._note(test, 'failed as Nova expects')

    def addUnexpectedSuccess(self, test: unittest.TestCase, details: object = None) -> None:
        self._note(test, 'failed', 'it passed, which Nova does not expect')

    def _note(
        self, test: unittest.TestCase, word: str, error: typing.Any = None, details: object = None
    ) -> None:
        if isinstance(details, dict):
            # testtools' own form of it.
            text = details.get('traceback') or details.get('reason')
            error = ''.join(text.iter_text()) if text is not None else ''
        elif isinstance(error, tuple):
            error = f'{error[0].__name__}: {error[1]}'
        self.found[test.id()] = (word, str(error or '')[-_LAST:].strip())


class SecretsOfHost:
    """Libvirt's secrets, where there is no libvirt: those that a test's host has."""

    def __init__(self, host: typing.Any) -> None:
        self._host = host

    def find(self, usage_type: str, usage_id: str) -> str | None:
        found = None if self._host is None else self._host.find_secret(usage_type, usage_id)
        return None if found is None else str(found.UUIDString())


def use_services(state: str, host: object = None) -> None:
    """Let our drivers work with the options that Nova has now.

    :param state: directory of the journal, which none of the tests may write to
    """
    from volumedrivers.nova import services

    nova.conf.CONF.set_default('state_path', state)
    services.use(dataclasses.replace(services.make(), secrets=SecretsOfHost(host)))


def replace_classes(state: str) -> None:
    """Put our classes where Nova's tests of the volume drivers find Nova's.

    Many of the tests leave out of a connection_info what Cinder always has there; that
    is added, so that they show what they are for.
    """
    from volumedrivers.nova import drivers

    for kind, path in NOVAS.items():
        module, _, name = path.rpartition('.')
        if kind != 'fake':
            ours = importutils.import_class(drivers.path_of(kind))
            setattr(importlib.import_module(module), name, _completing(ours, kind, state))


def _completing(ours: typing.Any, kind: str, state: str) -> typing.Any:
    def parse(self: typing.Any, connection_info: typing.Any) -> object:
        # A test sets options whenever it likes, and Nova's drivers read them each time.
        use_services(state, self.host)
        ours.__init__(self, self.host)
        info = {'driver_volume_type': kind, 'serial': 'a-volume', **connection_info}
        info['data'] = {**_DATA.get(kind, {}), **info['data']}
        return ours._parse(self, info)

    def connect(self: object, connection_info: typing.Any, instance: typing.Any) -> None:
        # Some give something without a uuid, where Nova's driver has nothing to do.
        if hasattr(instance, 'uuid'):
            ours.connect_volume(self, connection_info, instance)

    def disconnect(self: object, connection_info: typing.Any, instance: typing.Any) -> None:
        if hasattr(instance, 'uuid'):
            ours.disconnect_volume(self, connection_info, instance)

    made = {
        '_parse': parse,
        'connect_volume': connect,
        'disconnect_volume': disconnect,
    }
    return type(ours.__name__, (ours,), made)


def _flat(suite: typing.Any) -> Iterator[typing.Any]:
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from _flat(one)
        else:
            yield one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--register', action='store_true', help="our drivers in Nova's table")
    parser.add_argument(
        '--replace', action='store_true', help='also in the place of the classes that are tested'
    )
    parser.add_argument('--only', default='', help='those whose id has this regular expression')
    parser.add_argument('file', type=pathlib.Path)
    parser.add_argument('tests', nargs='+')
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        if given.register:
            # Not otherwise: one of the tests looks at all classes that there are.
            from volumedrivers.nova import registration

            registration.register()
            use_services(state)
        if given.replace:
            replace_classes(state)
        table = WatchedTable(libvirt_driver.VOLUME_DRIVERS)
        libvirt_driver.VOLUME_DRIVERS = table
        outcomes = Outcomes(table)
        suite = unittest.defaultTestLoader.loadTestsFromNames(given.tests)
        only = re.compile(given.only)
        unittest.TestSuite(one for one in _flat(suite) if only.search(one.id())).run(outcomes)
    given.file.write_text(
        json.dumps({'outcomes': outcomes.found, 'readers': sorted(table.readers)}, indent=1)
    )
    print(dict(collections.Counter(word for word, _ in outcomes.found.values())))


if __name__ == '__main__':
    main()
