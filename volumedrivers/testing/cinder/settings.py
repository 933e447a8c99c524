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

"""The text of the embedded Cinder's configuration; nothing of Cinder is imported here."""

from collections.abc import Mapping
import configparser
import io
import pathlib

# Of every request that brings no other identity.
PROJECT = 'a' * 32
TOKEN = f'admin:{PROJECT}'
HOST = 'embedded'
PASTE = 'api-paste.ini'
SCHEDULER = 'volumedrivers.testing.cinder.prompt_scheduler.PromptSchedulerManager'
KEY_MANAGER = 'volumedrivers.testing.cinder.keys.FileKeyManager'
KEYS_GROUP = 'testing_keys'

Sections = dict[str, dict[str, str]]


def sections(
    directory: pathlib.Path, etc: pathlib.Path, backends: Mapping[str, Mapping[str, str]]
) -> Sections:
    """Return the configuration.

    :param directory: everything of it is below
    :param etc: where Cinder was installed with its paste file
    :param backends: options of each back end; the first is the default type's
    """
    locks = directory / 'locks'
    found: Sections = {
        'DEFAULT': {
            'state_path': str(directory),
            'host': HOST,
            'auth_strategy': 'noauth',
            'transport_url': 'fake://',
            'resource_query_filters_file': str(etc / 'resource_filters.json'),
            'enabled_backends': ','.join(backends),
            'default_volume_type': next(iter(backends)),
            # The default of 64 is for each of the services.
            'executor_thread_pool_size': '8',
            # In one process only the service that was started last sends
            # heartbeats: the id they go by is one for all.
            'service_down_time': '1000000000',
            'report_interval': '5',
            'periodic_interval': '5',
            'periodic_fuzzy_delay': '0',
            'backend_stats_polling_interval': '3',
            'scheduler_manager': SCHEDULER,
            # A driver that cannot start here does not in seven seconds either.
            'reinit_driver_count': '0',
            # Ten volumes are soon used up.
            'quota_volumes': '-1',
            'quota_snapshots': '-1',
            'quota_gigabytes': '-1',
        },
        'database': {'connection': f'sqlite:///{directory}/cinder.sqlite'},
        'oslo_concurrency': {'lock_path': str(locks)},
        'coordination': {'backend_url': f'file://{locks}'},
        'key_manager': {'backend': KEY_MANAGER},
        KEYS_GROUP: {'directory': str(directory / 'keys')},
        'oslo_messaging_notifications': {'driver': 'noop'},
    }
    for name, options in backends.items():
        found[name] = {'volume_backend_name': name, **options}
    return found


def text(found: Sections) -> str:
    """Return the sections as oslo.config reads them."""
    parser = configparser.RawConfigParser(default_section='')
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_dict(found)
    written = io.StringIO()
    parser.write(written)
    return written.getvalue()
